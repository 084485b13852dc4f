/** What the browser tells a page of itself: that it may be gone the next instant, is looked at again, or has its network back. */
import type { Page } from "./environment";
import { guard } from "./guard";

/** `visibilitychange` is the last one a phone is sure to send, `pagehide` the last one of a desktop. Until `signal` ends it. */
export function watchPage(page: Page, signal: AbortSignal, leave: () => void, show: () => void, online: () => void, resize: () => void): void {
  const { document } = page;
  const listen = (target: EventTarget, name: string, work: () => void): void => target.addEventListener(name, () => guard(work), { signal });
  listen(document, "visibilitychange", () => (document.visibilityState === "hidden" ? leave : show)());
  listen(page, "pagehide", leave);
  listen(page, "online", online);
  listen(page, "resize", resize);
  // Where the browser says when its address changes, it need not be asked for in each call.
  listen((page as { navigation?: EventTarget }).navigation ?? page, "currententrychange", resize);
}
