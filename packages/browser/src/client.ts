/** One call, one id, every destination. The public methods never throw and give the event's id at once. */
import { createBackendClient, settledAs, type BackendConfiguration, type BackendStats, type Tracked } from "./backend";
import { createGate, standing } from "./consent";
import type { Environment, Page } from "./environment";
import { eventName, frozen, uuid7, withoutText, type Consent, type Destination, type Metadata, type Receipt, type WireEvent } from "./event";
import { guard } from "./guard";
import { createIdentity, STORAGE_KEY } from "./identity";
import { nothing, off } from "./nothing";

/** The service refuses longer addresses, and with them the event. */
export const MOST_URL_CHARACTERS = 4096;

export interface Configuration extends BackendConfiguration {
  /** Off: every method does nothing. Default: true. */
  enabled?: boolean;
  /** Vendors beside our own service, such as `statsig(client)` and `gtm()`. Default: none. */
  destinations?: Destination[];
  /** Start `pending`: hold events in memory, write no storage, call no vendor until `consent`. Default: false. */
  requireConsent?: boolean;
  /** Treat the browser's Do Not Track as denied consent. Default: false. */
  respectDoNotTrack?: boolean;
  /** Hand the text of messages to vendors too. Default: false. */
  messageContentToVendors?: boolean;
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
  /** Given up for want of consent. */
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
  consent(state: Consent): void;
  /** Sends what waits; resolves when the service has answered or a retry is due later. Never rejects. */
  flush(): Promise<void>;
  /** Sends what waits a last time and stops; later events are not taken. */
  shutdown(): Promise<void>;
  stats(): Stats;
}

interface Call {
  name: string;
  value?: string | number | undefined;
  metadata?: Metadata | undefined;
  category: string;
  action: string;
  label?: string;
  message?: MessageInput;
}

type Unsigned = Omit<WireEvent, "event_metadata" | "anonymous_id" | "session_id" | "sequence" | "consent">;

interface Held {
  event: Unsigned;
  metadata: string | undefined;
  call: Call;
  at: number;
  /** How often the page had signed out before this event. */
  resets: number;
  bytes: number;
}

const describe = ({ location, document, innerWidth, innerHeight, navigator }: Page): NonNullable<WireEvent["context"]> => ({
  page: { url: location.href.slice(0, MOST_URL_CHARACTERS), path: location.pathname.slice(0, MOST_URL_CHARACTERS), title: document.title.slice(0, MOST_URL_CHARACTERS) },
  viewport: { width: innerWidth, height: innerHeight },
  referrer: document.referrer.slice(0, MOST_URL_CHARACTERS),
  locale: navigator.language,
});

const errorMetadata = (error: unknown): Metadata => ({
  error_name: error instanceof Error ? error.name : typeof error,
  error_message: guard(() => (error instanceof Error ? error.message : String(error)), "unreadable").slice(0, 1_000),
});

function start(configuration: Configuration, environment: Environment, page: Page): Analytics {
  const { clockwork } = environment;
  const { destinations = [], messageContentToVendors = false } = configuration;
  const draw = uuid7(clockwork.now, environment.fill);
  const denied = configuration.respectDoNotTrack === true && standing(page.navigator).doNotTrack;
  const gate = createGate<Held>(denied ? "denied" : configuration.requireConsent ? "pending" : "granted");
  const identity = createIdentity(() => page.localStorage, draw, gate.state() === "granted", clockwork.ticks);
  const backend = createBackendClient(configuration, clockwork, page, {
    leave: identity.save,
    storage: (key) => key === STORAGE_KEY && identity.reread(),
  });
  if (gate.state() === "granted") backend.start();
  let tracked = 0;
  let discarded = 0;
  let resets = 0;
  let stopped = false;

  const toVendors = (event: Unsigned, frozenMetadata: string | undefined, { category, action, label, message }: Call): void => {
    const blocked = standing(page.navigator).sharingDenied;
    for (const destination of destinations) {
      const status = guard<Receipt["status"]>(() => {
        if (blocked) return "blocked";
        const metadata = withoutText(frozenMetadata ?? "{}", message?.content);
        if (messageContentToVendors && message) metadata["message_content"] = message.content;
        const taken = destination.send({ id: event.event_id, name: event.event_name, value: event.event_value, metadata, category, action, label: label ?? event.event_name });
        return taken ? "handed" : "absent";
      }, "failed");
      backend.receipt({ event_id: event.event_id, vendor: destination.vendor, status, at: new Date(clockwork.now()).toISOString() });
    }
  };

  const deliver = (event: Unsigned, metadata: string | undefined, call: Call, at: number): Tracked => {
    const kept = backend.trackEvent({ ...event, ...identity.next(at), consent: "granted" }, metadata);
    toVendors(event, metadata, call);
    return kept;
  };

  const track = (call: Call): Tracked => {
    const { message } = call;
    const id = draw();
    if (stopped) return settledAs(id, "off");
    const at = clockwork.now();
    const user = identity.userId();
    const metadata = frozen(call.metadata);
    const context = guard(() => describe(page), undefined);
    const event: Unsigned = {
      event_id: id,
      event_name: call.name,
      ...(call.value === undefined || call.value === null ? {} : { event_value: String(call.value) }),
      ...(user ? { user_id: user } : {}),
      client_timestamp: new Date(at).toISOString(),
      ...(message ? { message_content: message.content } : {}),
      ...(message?.threadId ? { thread_id: message.threadId } : {}),
      ...(context ? { context } : {}),
      source: "sdk",
    };
    tracked += 1;
    if (gate.state() === "granted") return deliver(event, metadata, call, at);
    if (gate.state() === "pending") {
      gate.hold({ event, metadata, call, at, resets, bytes: JSON.stringify(event).length + (metadata?.length ?? 0) });
      return settledAs(id, "held");
    }
    discarded += 1;
    return settledAs(id, "discarded");
  };

  const renew = (times: number): void => {
    if (times > 0) identity.renew(clockwork.now());
  };

  /** Ids of storage may be read only now, so held events get theirs here, with each sign-out in its place. */
  const release = (waiting: readonly Held[]): void => {
    let before = 0;
    for (const { event, metadata, call, at, resets: count } of waiting) {
      renew(count - before);
      before = count;
      deliver(event, metadata, call, at);
    }
    renew(resets - before);
    resets = 0;
  };

  /** A call from the page: whatever it hands us, it gets an id or nothing, never an exception. */
  const call = (make: () => Call): Tracked => guard(() => track(make()), off);

  return {
    trackEvent: (event) => call(() => ({ name: eventName(event.name), value: event.value, metadata: event.metadata, category: "event", action: event.name })),
    trackInteraction: (action, target, metadata) => call(() => ({ name: eventName(action, target), metadata, category: "interaction", action, label: target })),
    trackFeatureUsage: (feature, action, metadata) => call(() => ({ name: eventName("feature", feature, action), metadata, category: "feature", action, label: feature })),
    trackConversion: (type, value, metadata) => call(() => ({ name: eventName("conversion", type), value, metadata, category: "conversion", action: type })),
    trackError: (error, context) => call(() => ({ name: "error_occurred", metadata: { ...errorMetadata(error), ...context }, category: "error", action: "occurred" })),
    trackMessage: (message) =>
      call(() => {
        const content = String(message.content ?? "");
        const { role, threadId } = message;
        const metadata = { ...message.metadata, ...(role ? { role } : {}), ...(threadId ? { thread_id: threadId } : {}), message_length: content.length };
        return { name: "message_sent", metadata, category: "message", action: "sent", message: { ...message, content } };
      }),
    page: (name, metadata) => call(() => ({ name: "page_view", value: name, metadata, category: "page", action: "view" })),
    identify: (userId, metadata) =>
      call(() => {
        identity.identify(String(userId));
        return { name: "identify", metadata, category: "identity", action: "identify" };
      }),
    reset: () =>
      guard(() => {
        identity.identify(undefined);
        if (gate.state() === "pending") resets += 1;
        else identity.renew(clockwork.now());
      }, undefined),
    consent: (next) =>
      guard(() => {
        if (next === gate.state() || !["granted", "denied", "pending"].includes(next)) return;
        const waiting = gate.move(next);
        identity.persist(next === "granted");
        if (next === "granted") {
          backend.start();
          release(waiting);
        }
        if (next === "denied") {
          identity.forget();
          discarded += waiting.length + backend.discard();
        }
      }, undefined),
    flush() {
      identity.save();
      return backend.flush();
    },
    shutdown() {
      stopped = true;
      return backend.shutdown();
    },
    stats() {
      const { dropped, ...counts } = backend.stats();
      return { tracked, held: gate.held(), discarded, dropped: dropped + gate.dropped(), ...counts };
    },
  };
}

/** A service that does nothing where there is no page, where it is switched off, and where it cannot start. */
export function createClient(configuration: Configuration, environment: Environment): Analytics {
  const { window: page } = environment;
  return guard(() => (page && configuration.enabled !== false ? start(configuration, environment, page) : nothing), nothing);
}
