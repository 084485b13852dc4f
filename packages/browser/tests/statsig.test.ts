import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { StatsigClient } from "@statsig/js-client";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";

import { statsig, type StatsigLike } from "../src/destinations/statsig";
import { MOST_OWN } from "../src/own";
import { createStage } from "./stage";

/** Statsig's end of the wire: answers as told, and keeps what it was sent. */
let server: Server;
let status = 202;
let arrived: { metadata?: { event_id?: string } }[] = [];

beforeAll(async () => {
  server = createServer((request, response) => {
    let body = "";
    request.on("data", (part: Buffer) => (body += part.toString()));
    request.on("end", () => {
      if (request.url?.startsWith("/log") && status < 300) arrived.push(...(JSON.parse(body) as { events: typeof arrived }).events);
      response.writeHead(request.url?.startsWith("/log") ? status : 200).end("{}");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});
afterAll(() => new Promise((resolve) => server.close(resolve)));

const clients: StatsigClient[] = [];
function realClient(): StatsigClient {
  const at = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const networkConfig = { logEventUrl: `${at}/log`, initializeUrl: `${at}/initialize`, sdkExceptionUrl: `${at}/exception` };
  const client = new StatsigClient(`client-${Math.random()}`, {}, { networkConfig, loggingEnabled: "always", disableStorage: true, logLevel: 0 });
  client.dataAdapter.setDataLegacy(JSON.stringify({ has_updates: true, time: 1, feature_gates: {}, dynamic_configs: {}, layer_configs: {}, hash_used: "djb2" }), {});
  client.initializeSync({ disableBackgroundCacheRefresh: true });
  clients.push(client);
  return client;
}
afterEach(async () => {
  status = 202;
  arrived = [];
  await Promise.all(clients.splice(0).map((client) => client.shutdown()));
});

/** What the receipts of a page say of each event, in order. */
async function receipts(stage: ReturnType<typeof createStage>, analytics: ReturnType<ReturnType<typeof createStage>["open"]>): Promise<Record<string, string[]>> {
  await analytics.flush();
  const told: Record<string, string[]> = {};
  for (const { event_id, status: word } of stage.sent.flatMap(({ envelope }) => envelope.receipts ?? [])) (told[event_id] ??= []).push(word);
  return told;
}

describe("the real client", () => {
  it("delivers, and says so of our events alone", async () => {
    const stage = createStage();
    const client = realClient();
    const analytics = stage.open({ destinations: [statsig(client)] });
    const ids = [analytics.trackEvent({ name: "a" }).id, analytics.trackEvent({ name: "b", value: 2, metadata: { n: 1, o: { p: true } } }).id];
    client.logEvent("theirs", undefined, { event_id: "theirs" });
    await stage.pass(50);
    await client.flush();
    expect(await receipts(stage, analytics)).toEqual(Object.fromEntries(ids.map((id) => [id, ["handed", "delivered"]])));
    expect(arrived.map(({ metadata }) => metadata?.event_id).sort()).toEqual([...ids, "theirs"].sort());
  });

  it("that is refused has failed and never delivered", async () => {
    status = 400;
    const stage = createStage();
    const client = realClient();
    const analytics = stage.open({ destinations: [statsig(client)] });
    const { id } = analytics.trackEvent({ name: "a" });
    await stage.pass(50);
    await client.flush();
    status = 202;
    await client.flush();
    expect(await receipts(stage, analytics)).toEqual({ [id]: ["handed", "failed"] });
    expect(analytics.stats()).toMatchObject({ sent: 1, queued: 0 });
  });

  it("that has not answered yet has neither", async () => {
    const stage = createStage();
    const analytics = stage.open({ destinations: [statsig(realClient())] });
    const { id } = analytics.trackEvent({ name: "a" });
    await stage.pass(50);
    expect(await receipts(stage, analytics)).toEqual({ [id]: ["handed"] });
  });

  it("made later is absent until then", async () => {
    const stage = createStage();
    let client: StatsigClient | undefined;
    const analytics = stage.open({ destinations: [statsig(() => client)] });
    const first = analytics.trackEvent({ name: "a" }).id;
    await stage.pass(50);
    client = realClient();
    const second = analytics.trackEvent({ name: "b" }).id;
    await stage.pass(50);
    await client.flush();
    expect(await receipts(stage, analytics)).toEqual({ [first]: ["absent"], [second]: ["handed", "delivered"] });
  });

  it("has no gate before it has values, and then its own", () => {
    const destination = statsig(realClient());
    expect(destination.gate("a_gate")).toBe(false);
    expect(statsig(new StatsigClient("client-empty", {})).gate("a_gate")).toBeUndefined();
    expect(statsig(() => undefined).gate("a_gate")).toBeUndefined();
  });
});

/** A client that keeps its listeners where a test can call them. */
function handClient() {
  const listeners = new Map<string, (event: any) => void>();
  const logged: (Record<string, string> | undefined)[] = [];
  const client: StatsigLike = {
    logEvent: (_, __, metadata) => void logged.push(metadata),
    on: (name, listener) => void listeners.set(name, listener),
    off: (name, listener) => void (listeners.get(name) === listener && listeners.delete(name)),
  };
  const say = (name: string, event: object): void => listeners.get(name)?.(event);
  return { client, say, listeners, events: () => logged.map((metadata) => ({ metadata })) };
}
const send = (destination: ReturnType<typeof statsig>, id: string): boolean => destination.send({ id, name: "a", value: undefined, metadata: {}, category: "", action: "", label: "" });

describe("what a client says", () => {
  it("in the same breath as it sends is a beacon, and no proof", async () => {
    const { client, say, events } = handClient();
    const told: string[] = [];
    const destination = statsig(client);
    destination.start?.(({ status: word }) => void told.push(word));
    send(destination, "1");
    say("pre_logs_flushed", { events: events() });
    say("logs_flushed", { events: events() });
    expect(told).toEqual([]);
    say("pre_logs_flushed", { events: events() });
    await vi.waitUntil(() => true);
    say("logs_flushed", { events: events() });
    expect(told).toEqual(["delivered"]);
  });

  it("of a failure is told once, and may be followed by a delivery", () => {
    const { client, say, events } = handClient();
    const told: string[] = [];
    const destination = statsig(client);
    destination.start?.(({ status: word }) => void told.push(word));
    send(destination, "1");
    for (let attempt = 0; attempt < 3; attempt++) say("error", { tag: "NetworkError", requestArgs: { data: { events: events() } } });
    say("error", { tag: "initialize", error: new Error() });
    say("logs_flushed", { events: events() });
    say("logs_flushed", { events: events() });
    expect(told).toEqual(["failed", "delivered"]);
  });

  it("is remembered for so many events only", () => {
    const { client, say, events } = handClient();
    const told: string[] = [];
    const destination = statsig(client);
    destination.start?.(({ event_id }) => void told.push(event_id));
    for (let n = 0; n <= MOST_OWN; n++) send(destination, String(n));
    say("logs_flushed", { events: events() });
    expect([told.length, told[0]]).toEqual([MOST_OWN, "1"]);
  });

  it("is not listened to after the stop", () => {
    const { client, listeners } = handClient();
    const stop = statsig(client).start?.(() => undefined) as () => void;
    expect(listeners.size).toBe(3);
    stop();
    expect(listeners.size).toBe(0);
  });
});
