/**
 * Stands in for Google's container script, which cannot be loaded without the internet. Written from the rules that
 * Google documents and its open data-layer-helper follows: what is there is processed in order, then `push` is wrapped;
 * plain objects are merged into one model, functions are called, `arguments` are commands; a push with an event fires
 * tags and then `eventCallback`, or that alone after `eventTimeout`; beyond 300 entries the oldest are shifted out.
 *
 * A classic script, so that tests in a browser and in Node load the same: `loadGoogle({ name, tags, most })`.
 */
globalThis.loadGoogle = ({ name = "dataLayer", tags = () => 0, most = 300, container = "GTM-TEST" } = {}) => {
  const layer = (globalThis[name] = globalThis[name] || []);
  const google = { fired: [], model: {}, commands: [] };
  const isPlain = (value) => {
    if (typeof value !== "object" || value === null || value.nodeType) return false;
    const { constructor } = value;
    // As Google's isPlainObject: an instance of a class is none.
    return !constructor || Object.hasOwn(value, "constructor") || Object.hasOwn(constructor.prototype ?? {}, "isPrototypeOf");
  };
  const merge = (from, to) => {
    for (const key of Object.keys(from)) {
      if (isPlain(from[key])) to[key] = merge(from[key], isPlain(to[key]) ? to[key] : {});
      else to[key] = Array.isArray(from[key]) ? [...from[key]] : from[key];
    }
    return to;
  };
  let events = 0;
  const queue = [];
  let busy = false;
  const one = (item) => {
    if (typeof item === "function") return item.call({ get: (key) => google.model[key], set: (key, value) => merge({ [key]: value }, google.model) });
    if (Object.prototype.toString.call(item) === "[object Arguments]") return void google.commands.push([...item]);
    if (!isPlain(item)) return undefined;
    const { event, eventCallback, eventTimeout, ...rest } = item;
    merge(rest, google.model);
    if (event === undefined) return undefined;
    item["gtm.uniqueEventId"] = events++;
    google.fired.push({ event, model: structuredClone({ ...google.model }) });
    if (!eventCallback) return undefined;
    let called = false;
    const call = () => {
      if (called) return;
      called = true;
      eventCallback(container);
    };
    const wait = tags(event);
    if (wait === 0) call();
    else if (Number.isFinite(wait)) setTimeout(call, wait);
    if (eventTimeout) setTimeout(call, eventTimeout);
    return undefined;
  };
  const work = () => {
    if (busy) return;
    busy = true;
    while (queue.length > 0) {
      try {
        one(queue.shift());
      } catch {
        // Google's script swallows what pages throw at it.
      }
    }
    busy = false;
  };
  const before = layer.push;
  layer.push = function (...items) {
    const result = before.apply(layer, items);
    queue.push(...items);
    while (layer.length > most) layer.shift();
    work();
    return result;
  };
  queue.push(...layer.slice(0));
  work();
  globalThis.google_tag_manager = { ...globalThis.google_tag_manager, [container]: { dataLayer: {} } };
  layer.push({ event: "gtm.js", "gtm.start": Date.now() });
  return google;
};
