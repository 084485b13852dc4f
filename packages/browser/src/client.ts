/** One call, one id, every destination. The public methods never throw and return the event's id at once. */
import { createBackendClient, type BackendConfiguration, type Clockwork } from "./backend";
import { eventName, uuid7, type Consent, type Destination, type Metadata, type WireEvent } from "./event";
import { guard } from "./guard";
import { createIdentity } from "./identity";

export interface Configuration extends BackendConfiguration {
  /** Off: every method does nothing. Default: true. */
  enabled?: boolean;
  /** Vendors beside our own service. Default: none. */
  destinations?: Destination[];
  /** Start `pending`: hold events in memory, write no storage, call no vendor until `consent`. Default: false. */
  requireConsent?: boolean;
  /** Treat the browser's Do Not Track as denied consent. Default: false. */
  respectDoNotTrack?: boolean;
  /** Hand the text of messages to vendors too. Default: false. */
  messageContentToVendors?: boolean;
}

export interface MessageInput {
  content: string;
  threadId?: string;
  metadata?: Metadata;
}

export interface Analytics {
  trackEvent(event: { name: string; value?: string | number; metadata?: Metadata }): string;
  trackInteraction(action: string, target: string, metadata?: Metadata): string;
  trackFeatureUsage(feature: string, action: string, metadata?: Metadata): string;
  trackConversion(type: string, value?: string | number, metadata?: Metadata): string;
  trackError(error: unknown, context?: Metadata): string;
  trackMessage(message: MessageInput): string;
  page(name?: string, metadata?: Metadata): string;
  identify(userId: string, metadata?: Metadata): string;
  reset(): void;
  consent(state: Consent): void;
  flush(): Promise<void>;
  shutdown(): Promise<void>;
  stats(): { queued: number; held: number; dropped: number; discarded: number; refused: number; rejected: number; sent: number; killed: boolean };
}

export interface Environment {
  window: (Window & typeof globalThis) | undefined;
  clockwork: Clockwork;
  fill(bytes: Uint8Array): void;
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

interface Held {
  event: WireEvent;
  call: Call;
}

const MOST_HELD = 1_000;

export function createClient(configuration: Configuration, environment: Environment): Analytics {
  const { window: page, clockwork } = environment;
  const off = !page || configuration.enabled === false;
  const draw = uuid7(clockwork.now, environment.fill);
  const denied = configuration.respectDoNotTrack === true && page?.navigator.doNotTrack === "1";
  let state: Consent = denied ? "denied" : configuration.requireConsent ? "pending" : "granted";
  const identity = createIdentity(guard(() => page?.localStorage, undefined), draw, clockwork.now, state === "granted");
  const backend = createBackendClient(configuration, clockwork);
  let held: Held[] = [];
  let discarded = 0;

  const describe = (): NonNullable<WireEvent["context"]> => {
    const { location, document, innerWidth, innerHeight, navigator } = page as Window;
    return {
      page: { url: location.href, path: location.pathname, title: document.title },
      viewport: { width: innerWidth, height: innerHeight },
      referrer: document.referrer,
      locale: navigator.language,
    };
  };

  const toVendors = ({ event, call }: Held): void => {
    // Global Privacy Control is a no to sharing, not to a site's own analytics.
    const blocked = (page?.navigator as { globalPrivacyControl?: boolean } | undefined)?.globalPrivacyControl === true;
    const metadata = { ...call.metadata };
    delete metadata["message_content"];
    if (configuration.messageContentToVendors && call.message) metadata["message_content"] = call.message.content;
    for (const destination of configuration.destinations ?? []) {
      let status: "handed" | "failed" | "absent" | "blocked" = "blocked";
      if (!blocked) {
        const value = event.event_value;
        status = guard(
          () => (destination.send({ id: event.event_id, name: event.event_name, value, metadata, category: call.category, action: call.action, label: call.label ?? event.event_name }) ? "handed" : "absent"),
          "failed" as const,
        );
      }
      backend.receipt({ event_id: event.event_id, vendor: destination.vendor, status, at: new Date(clockwork.now()).toISOString() });
    }
  };

  const deliver = (entry: Held): void => {
    backend.trackEvent({ ...entry.event, consent: "granted" });
    toVendors(entry);
  };

  const track = (call: Call): string => {
    if (off) return "";
    const id = draw();
    return guard(() => {
      if (state === "denied") {
        discarded += 1;
        return id;
      }
      const user = identity.userId();
      const event: WireEvent = {
        event_id: id,
        event_name: call.name,
        ...(call.value === undefined ? {} : { event_value: String(call.value) }),
        ...(call.metadata ? { event_metadata: guard(() => JSON.parse(JSON.stringify(call.metadata)) as Metadata, {}) } : {}),
        ...(user ? { user_id: user } : {}),
        ...identity.next(),
        client_timestamp: new Date(clockwork.now()).toISOString(),
        ...(call.message ? { message_content: call.message.content } : {}),
        ...(call.message?.threadId ? { thread_id: call.message.threadId } : {}),
        context: describe(),
        consent: state,
        source: "sdk",
      };
      if (state === "pending") {
        held.push({ event, call });
        if (held.length > MOST_HELD) {
          held.shift();
          discarded += 1;
        }
      } else {
        deliver({ event, call });
      }
      return id;
    }, id);
  };

  const hidden = (): void => guard(() => {
    if (state === "granted") backend.leave();
  }, undefined);
  const onVisibility = (): void => {
    if (page?.document.visibilityState === "hidden") hidden();
  };
  const onOnline = (): void => void backend.flush();
  if (!off) {
    page.document.addEventListener("visibilitychange", onVisibility);
    page.addEventListener("pagehide", hidden);
    page.addEventListener("online", onOnline);
  }

  return {
    trackEvent: ({ name, value, metadata }) => track({ name: eventName(name), value, metadata, category: "event", action: name }),
    trackInteraction: (action, target, metadata) => track({ name: eventName(action, target), metadata, category: "interaction", action, label: target }),
    trackFeatureUsage: (feature, action, metadata) => track({ name: eventName("feature", feature, action), metadata, category: "feature", action, label: feature }),
    trackConversion: (type, value, metadata) => track({ name: eventName("conversion", type), value, metadata, category: "conversion", action: type }),
    trackError: (error, context) =>
      track({
        name: "error_occurred",
        metadata: { error_name: error instanceof Error ? error.name : typeof error, error_message: guard(() => (error instanceof Error ? error.message : String(error)), "unreadable").slice(0, 1000), ...context },
        category: "error",
        action: "occurred",
      }),
    trackMessage: (message) =>
      track({ name: "message_sent", metadata: { ...message.metadata, ...(message.threadId ? { thread_id: message.threadId } : {}), message_length: message.content.length }, category: "message", action: "sent", message }),
    page: (name, metadata) => track({ name: "page_view", value: name, metadata, category: "page", action: "view" }),
    identify(userId, metadata) {
      if (off) return "";
      identity.identify(userId);
      return track({ name: "identify", metadata, category: "identity", action: "identify" });
    },
    reset: () => guard(() => identity.reset(), undefined),
    consent(next) {
      guard(() => {
        if (off || next === state) return;
        state = next;
        identity.persist(next === "granted");
        const waiting = held;
        held = [];
        if (next === "granted") waiting.forEach(deliver);
        else if (next === "denied") discarded += waiting.length + backend.discard();
        else held = waiting;
      }, undefined);
    },
    flush: () => (off ? Promise.resolve() : backend.flush().catch(() => undefined)),
    async shutdown() {
      if (off) return;
      await backend.flush().catch(() => undefined);
      backend.stop();
      page.document.removeEventListener("visibilitychange", onVisibility);
      page.removeEventListener("pagehide", hidden);
      page.removeEventListener("online", onOnline);
    },
    stats: () => ({ ...backend.stats(), held: held.length, discarded }),
  };
}
