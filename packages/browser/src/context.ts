/** Where an event happened. Each part is read as rarely as it can be: some cost the page a layout. */
import type { Page } from "./environment";
import type { WireEvent } from "./event";
import { guard } from "./guard";

/** The service refuses longer addresses, and with them the event. */
export const MOST_URL_CHARACTERS = 4096;

type Context = NonNullable<WireEvent["context"]>;
export type Place = Omit<Context, "viewport">;

export interface Surroundings {
  /** As of now; the same object as long as the page stays where it is. */
  place(): Place | undefined;
  /** With the size of the window, which may be some milliseconds younger. */
  whole(place: Place | undefined): Context | undefined;
  /** The window has another size. */
  resized(): void;
}

const cut = (text: string): string => text.slice(0, MOST_URL_CHARACTERS);

export function lookAround(page: Page): Surroundings {
  const { location, document, navigator } = page;
  let place: Place | undefined;
  let href: string | undefined;
  let title: string | undefined;
  let viewport: Context["viewport"] | undefined;
  return {
    place: () =>
      guard(() => {
        if (href !== location.href || title !== document.title || !place) {
          href = location.href;
          title = document.title;
          place = { page: { url: cut(href), path: cut(location.pathname), title: cut(title) }, referrer: cut(document.referrer), locale: navigator.language };
        }
        return place;
      }, undefined),
    whole: (known) => known && { ...known, viewport: (viewport ??= { width: page.innerWidth, height: page.innerHeight }) },
    resized: () => void (viewport = undefined),
  };
}
