/** One call, one id, every destination. The public methods never throw and give the event's id at once. */
import { createBackendClient } from "./backend";
import { createConsents, type Choice, type Target } from "./consent";
import { lookAround, type Place } from "./context";
import type { Environment, Page } from "./environment";
import { eventName, masked, snapshot, uuid7, type Consent, type Destination, type Metadata, type Source, type WireEvent } from "./event";
import { guard } from "./guard";
import { createIdentity, STORAGE_KEY, type Ids } from "./identity";
import type { BackendConfiguration, BackendStats } from "./options";
import { follow, type Fate, type Row, type Tracked } from "./outbox";
import { excess } from "./queue";
import { createSlot } from "./slot";
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
  /** From now on events carry this user; the event `identify` links the user to the anonymous id. Without a user, as `identify(traits)`, it tells traits of whoever it is. */
  identify(userId: string | Metadata, metadata?: Metadata): Tracked;
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

type Message = { content: string; threadId: string | undefined };

/** A call: what the name is made of, what came with it, and how vendors name it, where that is not by the same parts. */
type Call = [parts: string[], metadata?: Metadata | undefined, value?: string | number | undefined, words?: string[] | undefined, message?: Message | undefined, source?: Source];

/** Who is signed in; the user goes where the person signed out elsewhere. */
interface Person {
  user?: string | undefined;
}

/** A call as it was when it was made, for those in `to` that it has not gone to; the event is made of it later. */
interface Entry {
  row: Row;
  at: number;
  call: Call;
  person: Person;
  place: Place | undefined;
  /** How often the page had signed out before. */
  resets: number;
  to: Target[];
  weight?: number;
}

const errorMetadata = (error: unknown): Metadata => {
  const { name = typeof error, message = guard(() => String(error), "unreadable") } = error instanceof Error ? error : ({} as Partial<Error>);
  return { error_name: name, error_message: String(message).slice(0, 1_000) };
};

/** To measure a call costs about as much as the call: one of so many stands for all. */
const MEASURED = 8;

function start(configuration: Configuration, { clockwork, window: outside, fill, given }: Environment): Analytics {
  const { destinations = [], messageContentToVendors, beforeSend, mask, debug } = configuration;
  const page = configuration.enabled === false ? undefined : outside;
  const { now } = clockwork;
  const targets: Target[] = ["backend", ...new Set(destinations.map(({ vendor }) => vendor))];
  const draw = uuid7(fill);
  const consents = createConsents(configuration, page?.navigator);
  const { of } = consents;
  const may = (target: Target): boolean => of(target) === "granted";
  const identity = createIdentity(createSlot(page, STORAGE_KEY), draw, clockwork.ticks, () => (person.user = undefined));
  const around = lookAround(page as Page);
  const settle = (last?: boolean): void => {
    draw.prepare();
    around.place();
    if (may("backend")) identity.settle(now(), resets, last);
  };
  const backend = createBackendClient(configuration, clockwork, page, {
    leave: () => settle(true),
    resize: around.resize,
    composed: settle,
    gate: (name) => destinations.map((destination) => guard(() => (may(destination.vendor) ? destination.gate?.(name) : undefined))).find((said) => typeof said === "boolean"),
  });
  const { counts, say } = backend;
  const vendors = createVendors(destinations, of, now, !!(messageContentToVendors && mask), (receipt) => {
    say("vendor", receipt.event_id, receipt);
    if (of("backend") !== "denied") backend.receipt(receipt);
  });
  let person: Person = {};
  let held: Entry[] = [];
  let resets = 0;
  let calls = 0;
  let stopped = !page;

  /** The event, as the page wants it sent; undefined where it wants that not. */
  const compose = ({ row: { id }, at, call: [parts, metadata, value, , message, source = "sdk"], person: { user }, place }: Entry, ids: Ids | undefined): WireEvent | undefined => {
    // What is undefined is not written.
    const event = {
      event_id: id,
      event_name: eventName(...parts),
      event_value: value == null ? undefined : String(value),
      // A driven browser is marked, not left out.
      event_metadata: page?.navigator.webdriver ? { ...metadata, tt_automation: true } : metadata,
      user_id: user || undefined,
      ...ids,
      client_timestamp: new Date(at).toISOString(),
      message_content: message?.content,
      thread_id: message?.threadId || undefined,
      context: around.whole(place),
      consent: consents.stamp(),
      source,
    } as WireEvent;
    const wanted = beforeSend ? guard(() => beforeSend(JSON.parse(JSON.stringify(event)) as WireEvent), event) : event;
    return wanted ? masked({ ...wanted, event_id: id }, mask) : undefined;
  };

  /** Takes an entry to those that may have it now, when its slice ends. What nobody has answered for waits. */
  const make = (entry: Entry): WireEvent | Fate => {
    const { call: [parts, , , words = parts, message, source], to } = entry;
    const own = to[0] === "backend" && of("backend");
    const ready = to.filter((target) => of(target) !== "pending");
    // Of what waits for vendors alone nobody awaits the end.
    if (ready.length < to.length) hold({ ...entry, row: own === "pending" ? entry.row : ({ id: entry.row.id } as Row), to: to.filter((target) => !ready.includes(target)) });
    if (ready.some(may)) {
      // The text of a message as a copy of it would stand in the metadata, also where `beforeSend` took it out of its place.
      const text = message?.content;
      const secret = text && mask ? guard(() => mask(text), "") : text;
      const event = compose(entry, own === "granted" ? identity.next(entry.at, entry.resets) : undefined);
      if (event && !source) vendors.hand(event, words as Words, secret, ready);
      if (event && own === "granted") return event;
    }
    return own === "pending" ? "held" : own ? "discarded" : "off";
  };

  const hold = (entry: Entry): void => {
    // Not every value that a page hands us can be written: one that cannot counts as a small one.
    entry.weight ??= guard(() => JSON.stringify(entry).length, 999);
    held.push(entry);
    for (const { row } of held.splice(0, excess(held as Required<Entry>[]))) if (row.fate) backend.track(row, () => "no room", true);
  };

  /** What waited for an answer goes before what came since. */
  const release = (): void => {
    for (const entry of held.splice(0).reverse()) backend.track(entry.row, () => make(entry), true);
  };

  const track = (call: Call): Tracked => {
    const at = now();
    const id = given?.() || draw(at);
    const row = { id } as Row;
    const entry: Entry = { row, at, call, person, place: around.place(), resets, to: call[5] ? ["backend"] : targets };
    call[1] = snapshot(call[1]);
    counts.tracked += 1;
    if (debug) say("tracked", id, eventName(...call[0]));
    return backend.track(row, () => make(entry));
  };

  /** `before`: what held until now for our own service. One that is not asked leaves nothing behind, of earlier visits neither. */
  const begin = (before: Consent): void => {
    if (may("backend")) backend.start();
    else if (of("backend") !== before) {
      identity.forget();
      // Its slice ends with this.
      backend.discard();
    }
    vendors.start();
  };
  if (page) begin("pending");

  const off = follow({ id: "", fate: "off" });
  /** A call from the page: whatever it hands us, it gets an id or nothing, never an exception. */
  const call = (make: () => Call): Tracked => (stopped ? off : guard(() => (++calls % MEASURED ? track(make()) : backend.spend(() => track(make()), MEASURED)), off));

  return {
    trackEvent: (event) => call(() => [[event.name], event.metadata, event.value, ["event", event.name]]),
    trackInteraction: (action, target, metadata) => call(() => [[action, target], metadata, undefined, ["interaction", action, target]]),
    trackFeatureUsage: (feature, action, metadata) => call(() => [["feature", feature, action], metadata, undefined, ["feature", action, feature]]),
    trackConversion: (type, value, metadata) => call(() => [["conversion", type], metadata, value]),
    trackError: (error, context) => call(() => [["error", "occurred"], { ...errorMetadata(error), ...context }]),
    trackMessage: (message) =>
      call(() => {
        const content = String(message.content ?? "");
        const { role, threadId } = message;
        const metadata = { ...message.metadata, ...(role && { role }), ...(threadId && { thread_id: threadId }), message_length: content.length };
        return [["message", "sent"], metadata, undefined, undefined, { content, threadId }];
      }),
    page: (name, metadata) => call(() => [["page", "view"], metadata, name]),
    identify: (userId, metadata) =>
      call(() => {
        // Whoever signed out elsewhere is not this one.
        settle();
        // Nobody is called "undefined".
        if (typeof userId === "object") metadata = userId ?? metadata;
        else if (userId) person = { user: String(userId) };
        return [["identify"], metadata, undefined, ["identity", "identify"]];
      }),
    observe: ({ name, value, metadata, source }) => call(() => [[name], metadata, value, undefined, undefined, source]),
    reset: () =>
      guard(() => {
        person = {};
        resets += 1;
        backend.persist();
        settle();
      }),
    consent: (choice) =>
      guard(() => {
        const before = of("backend");
        if (stopped || !consents.answer(choice, now())) return;
        release();
        begin(before);
      }),
    flush() {
      backend.persist();
      settle(true);
      return backend.flush();
    },
    shutdown() {
      stopped = true;
      return backend.shutdown().then(vendors.stop);
    },
    stats: backend.stats,
  };
}

const OFF = { enabled: false } as Configuration;

/** A service that does nothing where there is no page, where it is switched off, and where it cannot start. */
export const createClient = (configuration: Configuration, environment: Environment): Analytics => guard(() => start(configuration, environment)) ?? start(OFF, environment);
