/** The moments at which a page may be gone the next instant, and at which the network is back. */
import type { Page } from "./environment";
import { guard } from "./guard";

/** `visibilitychange` is the last one a phone is sure to send, `pagehide` the last one of a desktop. */
export function watchPage(page: Page, on: { leave(): void; online(): void; resize(): void; storage(event: StorageEvent): void }): () => void {
  const leave = (): void => guard(on.leave, undefined);
  const visibility = (): void => {
    if (page.document.visibilityState === "hidden") leave();
  };
  const online = (): void => guard(on.online, undefined);
  page.document.addEventListener("visibilitychange", visibility);
  page.addEventListener("pagehide", leave);
  page.addEventListener("online", online);
  page.addEventListener("storage", on.storage);
  page.addEventListener("resize", on.resize);
  return () => {
    page.document.removeEventListener("visibilitychange", visibility);
    page.removeEventListener("pagehide", leave);
    page.removeEventListener("online", online);
    page.removeEventListener("storage", on.storage);
    page.removeEventListener("resize", on.resize);
  };
}
