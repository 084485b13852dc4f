/** Which events our own service takes in from here: the same hash as the service's, so that both leave out the same. Pure. */
import type { Config } from "./config";
import type { WireEvent } from "./event";
import { encode } from "./queue";

/** Where an identity stands from 0 to below 1, for each purpose elsewhere. FNV-1a, then the end of murmur3. */
export function position(identity: string, purpose: "rollout" | "sampling"): number {
  let hash = 0x811c9dc5;
  for (const byte of encode(`${purpose}:${identity}`)) hash = Math.imul(hash ^ byte, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32;
}

export type Exclusion = "killed" | "not_in_rollout" | "sampled";

/** Why an event is left out; undefined where it is not. `gate` is what a vendor's gate says, where one drives the share. */
export function exclusion({ kill, share, gate, sampling }: Config, { event_name, anonymous_id, user_id }: WireEvent, ask: (gate: string) => boolean | undefined): Exclusion | undefined {
  const outside = (purpose: "rollout" | "sampling", rate: unknown): boolean => typeof rate === "number" && rate < 1 && position(anonymous_id || user_id || "", purpose) >= rate;
  if (kill) return "killed";
  const said = gate ? ask(gate) : undefined;
  if (said === undefined ? outside("rollout", share) : !said) return "not_in_rollout";
  const own = sampling?.events?.[event_name];
  return outside("sampling", typeof own === "number" ? own : sampling?.default) ? "sampled" : undefined;
}
