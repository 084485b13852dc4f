import { describe, expect, it } from "vitest";

import vectors from "../../../contract/vectors/position.json";
import { exclusion, position } from "../src/rollout";

describe("the position of an identity", () => {
  it.each(vectors)("of $identity for $purpose is the contract's", ({ identity, purpose, position: known }) => {
    expect(position(identity, purpose as "rollout" | "sampling")).toBe(known);
  });

  it("spreads people evenly, and apart for each purpose", () => {
    const ids = Array.from({ length: 10_000 }, (_, n) => `person ${n}`);
    const inside = ids.filter((id) => position(id, "rollout") < 0.1);
    expect(inside.length).toBeGreaterThan(900);
    expect(inside.length).toBeLessThan(1_100);
    expect(inside.filter((id) => position(id, "sampling") < 0.1).length).toBeLessThan(150);
  });
});

describe("an event", () => {
  const event = { event_id: "1", event_name: "move", anonymous_id: "a", user_id: "b", client_timestamp: "", consent: "granted", source: "sdk" } as const;
  const nobody = (): undefined => undefined;
  const at = { rollout: position("a", "rollout"), sampling: position("a", "sampling") };

  it("is in a share from the position of its anonymous id on, and stays in every larger one", () => {
    expect(exclusion({ share: at.rollout }, event, nobody)).toBe("not_in_rollout");
    for (const share of [at.rollout + 1e-9, at.rollout + 0.1, 1]) expect(exclusion({ share }, event, nobody)).toBeUndefined();
    expect(exclusion({ share: position("b", "rollout") + 1e-9 }, { ...event, anonymous_id: "" }, nobody)).toBeUndefined();
  });

  it("is sampled at the rate of its name, else at the one for all", () => {
    expect(exclusion({ sampling: { default: 1, events: { move: at.sampling } } }, event, nobody)).toBe("sampled");
    expect(exclusion({ sampling: { default: at.sampling, events: { move: 1 } } }, event, nobody)).toBeUndefined();
    expect(exclusion({ sampling: { default: at.sampling, events: {} } }, { ...event, event_name: "constructor" }, nobody)).toBe("sampled");
  });

  it("follows the gate where one can answer, else the share", () => {
    expect(exclusion({ gate: "g", share: 0 }, event, () => true)).toBeUndefined();
    expect(exclusion({ gate: "g", share: 1 }, event, () => false)).toBe("not_in_rollout");
    expect(exclusion({ gate: "g", share: 0 }, event, nobody)).toBe("not_in_rollout");
    expect(exclusion({ gate: null, share: 0 }, event, () => true)).toBe("not_in_rollout");
  });

  it("is in where a configuration says nothing or nonsense, and out under a kill", () => {
    expect(exclusion({}, event, nobody)).toBeUndefined();
    expect(exclusion({ share: "none", sampling: null } as never, event, nobody)).toBeUndefined();
    expect(exclusion({ kill: true, gate: "g" }, event, () => true)).toBe("killed");
  });
});
