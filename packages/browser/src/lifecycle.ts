/** What the browser tells a page of itself: that it may be gone the next instant, is looked at again, or has its network back. */
import type { Page } from "./environment";
import { guard } from "./guard";

export interface Moments {
  leave(): void;
  show(): void;
  online(): void;
  resize(): void;
}

export function listen(target: EventTarget, name: string, work: (event: never) => void): () => void {
  const listener = (event: Event): void => guard(() => work(event as never));
  target.addEventListener(name, listener);
  return () => target.removeEventListener(name, listener);
}

/** `visibilitychange` is the last one a phone is sure to send, `pagehide` the last one of a desktop. What it returns ends it. */
export function watchPage(page: Page, on: Moments): () => void {
  const { document } = page;
  const heard: [EventTarget, string, (event: never) => void][] = [
    [document, "visibilitychange", () => (document.visibilityState === "hidden" ? on.leave : on.show)()],
    [page, "pagehide", on.leave],
    [page, "online", on.online],
    [page, "resize", on.resize],
  ];
  const listeners = heard.map(([target, name, work]) => listen(target, name, work));
  return () => listeners.forEach((end) => end());
}
