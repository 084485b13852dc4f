/** One call, one id, every destination. The public methods never throw and give the event's id at once. */
import { createBackendClient, settledAs, type BackendConfiguration, type BackendStats, type Tracked } from "./backend";
import { createConsents, doNotTrack, type Choice, type Target } from "./consent";
import { lookAround, type Place } from "./context";
import type { Environment, Page } from "./environment";
import { eventName, masked, snapshot, uuid7, type Destination, type Metadata, type Receipt, type Source, type WireEvent } from "./event";
import { guard } from "./guard";
import { createIdentity, STORAGE_KEY, type Ids } from "./identity";
import { nothing, off } from "./nothing";
import type { Fate } from "./outbox";
import { createQueue } from "./queue";
import { createVendors, type Words } from "./vendors";

export interface Configuration extends BackendConfiguration {
  /** Off: every method does nothing. Default: true. */
  enabled?: boolean;
  /** Vendors beside our own service, such as `statsig(client)` and `gtm()`. Default: none. */
  destinations?: Destination[];
  /** Start `pending`: hold events in memory, write no storage, call no vendor until `consent`. Default: false. */
  requireConsent?: boolean;
  /** Treat the browser's Do Not Track as denied consent. Default: false. */
  respectDoNotTrack?: boolean;
  /** Hand the text of messages to vendors too, masked: without `mask` it stays here. Default: false. */
  messageContentToVendors?: boolean;
  /** The event before it goes anywhere, off the call: give it back changed, or nothing to drop it. The id stays. Where this throws the event goes as it was. Default: none. */
  beforeSend?: (event: WireEvent) => WireEvent | null | undefined;
}

export interface MessageInput {
  /** The text. It goes to your own service alone. */
  content: string;
  /** The conversation it belongs to. Default: none. */
  threadId?: string;
  /** Who wrote it, such as `user` or `assistant`; travels as `role` in the metadata. Default: none. */
  role?: string;
  metadata?: Metadata;
}

/** Every event tracked is in exactly one of the counts below `tracked`. */
export interface Stats extends BackendStats {
  /** Events that the page tracked here. */
  tracked: number;
  /** Waiting for consent. */
  held: number;
  /** Given up for want of consent, or by `beforeSend`. */
  discarded: number;
}

export interface Analytics {
  trackEvent(event: { name: string; value?: string | number; metadata?: Metadata }): Tracked;
  trackInteraction(action: string, target: string, metadata?: Metadata): Tracked;
  trackFeatureUsage(feature: string, action: string, metadata?: Metadata): Tracked;
  trackConversion(type: string, value?: string | number, metadata?: Metadata): Tracked;
  trackError(error: unknown, context?: Metadata): Tracked;
  /** Sent as `message_sent`, whoever wrote it. */
  trackMessage(message: MessageInput): Tracked;
  /** Sent as `page_view`, with the name as its value. */
  page(name?: string, metadata?: Metadata): Tracked;
  /** From now on events carry this user; the event `identify` links the user to the anonymous id. */
  identify(userId: string, metadata?: Metadata): Tracked;
  /** Signing out: no user, a new anonymous id and a new session. */
  reset(): void;
  /** What other code told a vendor: for our own service alone. */
  observe(event: { name: string; value?: string | number | undefined; metadata?: Metadata | undefined; source: Source }): Tracked;
  /** A person's answer: one for all, or for `backend`, `statsig` and `gtm` each; those not named keep theirs. */
  consent(choice: Choice): void;
  /** Sends what waits; resolves when the service has answered or a retry is due later. Never rejects. */
  flush(): Promise<void>;
  /** Sends what waits a last time and stops; later events are not taken. */
  shutdown(): Promise<void>;
  stats(): Stats;
}

interface Call extends Words {
  /** What the name is made of. */
  parts: unknown[];
  value?: string | number | undefined;
  metadata?: Metadata | undefined;
  message?: MessageInput;
  source?: Source;
}

/** A call as it was when it was made; the event is made of it later. */
interface Entry {
  id: string;
  at: number;
  call: Call;
  metadata: Metadata | undefined;
  user: string | undefined;
  place: Place | undefined;
}

/** Waiting for an answer of those in `to`. */
interface Held {
  entry: Entry;
  to: Target[];
  /** How often the page had signed out before this event. */
  resets: number;
  bytes: number;
}

const errorMetadata = (error: unknown): Metadata => ({
  error_name: error instanceof Error ? error.name : typeof error,
  error_message: guard(() => (error instanceof Error ? error.message : String(error)), "unreadable").slice(0, 1_000),
});

/** To measure a call costs about as much as the call: one of so many stands for all. */
const MEASURED = 8;

const OWN: readonly Target[] = ["backend"];

function start(configuration: Configuration, environment: Environment, page: Page): Analytics {
  const { clockwork } = environment;
  const { destinations = [], messageContentToVendors, beforeSend, mask, debug } = configuration;
  const targets: Target[] = ["backend", ...new Set(destinations.map(({ vendor }) => vendor))];
  const draw = uuid7(clockwork.now, environment.fill);
  const denied = configuration.respectDoNotTrack === true && doNotTrack(page.navigator);
  const consents = createConsents(denied ? "denied" : configuration.requireConsent ? "pending" : "granted", page.navigator);
  const may = (target: Target): boolean => consents.of(target) === "granted";
  const identity = createIdentity(() => page.localStorage, draw, may("backend"), clockwork.ticks);
  const around = lookAround(page);
  const backend = createBackendClient(configuration, clockwork, page, {
    leave: identity.save,
    storage: ({ key, newValue }) => key === STORAGE_KEY && identity.learn(newValue),
    resize: around.resized,
    prepare() {
      draw.ready();
      around.place();
      identity.prepare();
    },
    counts: () => own(backend.stats().dropped),
    gate: (name) => destinations.map((destination) => guard(() => destination.gate?.(name))).find((said) => typeof said === "boolean"),
  });
  const say = (...told: Parameters<NonNullable<typeof debug>>): void => guard(() => debug?.(...told));
  const vendors = createVendors(destinations, consents, clockwork.now, messageContentToVendors === true && mask !== undefined, (receipt) => {
    say("vendor", receipt.event_id, receipt);
    if (consents.of("backend") !== "denied") backend.receipt(receipt);
  });
  /** A driven browser is marked, not left out. */
  const automated = page.navigator.webdriver ? { tt_automation: true } : undefined;
  const waiting = createQueue<Held>();
  let tracked = 0;
  let discarded = 0;
  let resets = 0;
  let calls = 0;
  let stopped = false;
  /** Nobody waits and nobody is left out. */
  let open = false;

  const own = (dropped: number): Pick<Stats, "tracked" | "held" | "discarded" | "dropped"> => ({
    tracked,
    held: waiting.rows().filter(({ to }) => to.includes("backend")).length,
    discarded,
    dropped: dropped + waiting.dropped(),
  });

  /** The event, as the page wants it sent; undefined where it wants that not. */
  const make = ({ id, at, call, metadata, user, place }: Entry, ids: Ids | undefined): WireEvent | undefined => {
    const { value, message } = call;
    // What is undefined is not written.
    const event = {
      event_id: id,
      event_name: eventName(...call.parts),
      event_value: value == null ? undefined : String(value),
      event_metadata: automated ? { ...metadata, ...automated } : metadata,
      user_id: user || undefined,
      ...ids,
      client_timestamp: new Date(at).toISOString(),
      message_content: message?.content,
      thread_id: message?.threadId || undefined,
      context: around.whole(place),
      consent: consents.stamp(),
      source: call.source ?? "sdk",
    } as WireEvent;
    const wanted = beforeSend ? guard(() => beforeSend(JSON.parse(JSON.stringify(event)) as WireEvent), event) : event;
    return wanted ? masked({ ...wanted, event_id: id }, mask) : undefined;
  };

  /** The text of a message as a copy of it would stand in the metadata, also where `beforeSend` took it out of its place. */
  const secret = (text: string | undefined): string | undefined => (text !== undefined && mask ? guard(() => mask(text), "") : text);

  /** Sends an entry on to those that may have it now. */
  const deliver = (entry: Entry, to: readonly Target[]): Tracked => {
    const { id } = entry;
    const own = to[0] === "backend";
    const ids = own ? identity.next(entry.at) : undefined;
    return backend.track(id, () => {
      draw.ready();
      identity.settle();
      const event = make(entry, ids);
      if (event && !entry.call.source) vendors.hand(event, entry.call, secret(entry.call.message?.content), (target) => to.includes(target));
      if (event && may("backend") && own) return event;
      if (own) discarded += 1;
      return "discarded";
    });
  };

  /** What is denied to our own service ends here; what nobody has answered for waits. */
  const route = (entry: Entry, to: readonly Target[], before: number): Tracked => {
    const is = (state: string) => (target: Target) => consents.of(target) === state;
    const pending = to.filter(is("pending"));
    const ready = to.filter((target) => !pending.includes(target) && (target !== "backend" || may(target)));
    const denied = to.includes("backend") && is("denied")("backend");
    if (denied) discarded += 1;
    if (pending.length > 0) waiting.push({ entry, to: pending, resets: before, bytes: JSON.stringify(entry).length });
    if (ready.includes("backend") || ready.some(may)) return deliver(entry, ready);
    say(denied ? "discarded" : "held", entry.id);
    return settledAs(entry.id, denied ? "discarded" : "held");
  };

  const track = (call: Call): Tracked => {
    const id = draw();
    if (stopped) return settledAs(id, "off");
    const entry: Entry = { id, at: clockwork.now(), call, metadata: snapshot(call.metadata), user: identity.userId(), place: guard(around.place) };
    tracked += 1;
    if (debug) say("tracked", id, eventName(...call.parts));
    const to = call.source ? OWN : targets;
    return open ? deliver(entry, to) : route(entry, to, resets);
  };

  const renew = (times: number): void => {
    if (times > 0) identity.renew(clockwork.now());
  };

  /** Ids of storage may be read only now, so held events get theirs here, with each sign-out in its place. */
  const release = (): void => {
    let before = 0;
    const mine = may("backend");
    for (const { entry, to, resets: count } of waiting.clear()) {
      if (mine) renew(count - before);
      before = count;
      route(entry, to, count);
    }
    if (!mine) return;
    renew(resets - before);
    resets = 0;
  };

  const begin = (): void => {
    open = targets.every(may);
    if (may("backend")) backend.start();
    vendors.start();
  };
  begin();

  /** A call from the page: whatever it hands us, it gets an id or nothing, never an exception. */
  const call = (make: () => Call): Tracked => guard(() => (++calls % MEASURED ? track(make()) : backend.spend(() => track(make()), MEASURED)), off);

  return {
    trackEvent: (event) => call(() => ({ parts: [event.name], value: event.value, metadata: event.metadata, group: "event", act: event.name })),
    trackInteraction: (action, target, metadata) => call(() => ({ parts: [action, target], metadata, group: "interaction", act: action, tag: target })),
    trackFeatureUsage: (feature, action, metadata) => call(() => ({ parts: ["feature", feature, action], metadata, group: "feature", act: action, tag: feature })),
    trackConversion: (type, value, metadata) => call(() => ({ parts: ["conversion", type], value, metadata, group: "conversion", act: type })),
    trackError: (error, context) => call(() => ({ parts: ["error_occurred"], metadata: { ...errorMetadata(error), ...context }, group: "error", act: "occurred" })),
    trackMessage: (message) =>
      call(() => {
        const content = String(message.content ?? "");
        const { role, threadId } = message;
        const metadata = { ...message.metadata, ...(role && { role }), ...(threadId && { thread_id: threadId }), message_length: content.length };
        return { parts: ["message_sent"], metadata, group: "message", act: "sent", message: { ...message, content } };
      }),
    page: (name, metadata) => call(() => ({ parts: ["page_view"], value: name, metadata, group: "page", act: "view" })),
    identify: (userId, metadata) =>
      call(() => {
        identity.identify(String(userId));
        return { parts: ["identify"], metadata, group: "identity", act: "identify" };
      }),
    observe: ({ name, value, metadata, source }) => call(() => ({ parts: [name], value, metadata, group: "tap", act: name, source })),
    reset: () =>
      guard(() => {
        identity.identify(undefined);
        if (consents.of("backend") === "pending") resets += 1;
        else identity.renew(clockwork.now());
      }),
    consent: (choice) =>
      guard(() => {
        const before = consents.of("backend");
        if (!consents.answer(choice, clockwork.now())) return;
        const now = consents.of("backend");
        if (now !== before) {
          identity.persist(now === "granted");
          if (now === "denied") {
            identity.forget();
            // Its slice ends with this, which counts too.
            const forgotten = backend.discard();
            discarded += forgotten;
          }
        }
        begin();
        release();
      }),
    flush() {
      identity.save();
      return backend.flush();
    },
    shutdown() {
      stopped = true;
      return backend.shutdown().then(vendors.stop);
    },
    stats() {
      const counts = backend.stats();
      return { ...counts, ...own(counts.dropped) };
    },
  };
}

/** A service that does nothing where there is no page, where it is switched off, and where it cannot start. */
export function createClient(configuration: Configuration, environment: Environment): Analytics {
  const { window: page } = environment;
  return guard(() => (page && configuration.enabled !== false ? start(configuration, environment, page) : nothing), nothing);
}
