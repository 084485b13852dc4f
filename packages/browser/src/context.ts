/** Where an event happened. What costs the page a layout or a call into the browser is read as rarely as it can be. */
import type { Page } from "./environment";
import type { WireEvent } from "./event";
import { guard } from "./guard";

/** The service refuses longer addresses, and with them the event. */
export const MOST_URL_CHARACTERS = 4096;

type Context = NonNullable<WireEvent["context"]>;
/** An address the page was at, with the last title it had there. */
export type Place = Context["page"];

export interface Surroundings {
  /** As of now; the same object as long as the page stays where it is. */
  place(): Place | undefined;
  /** With what may be some milliseconds younger. */
  whole(place: Place | undefined): Context | undefined;
  /** The window has another size, or the page another address. */
  resize(): void;
}

const cut = (text: string): string => text.slice(0, MOST_URL_CHARACTERS);

export function lookAround(page: Page): Surroundings {
  let here: Place | undefined;
  let href: string | undefined;
  let viewport: Context["viewport"] | undefined;
  /** A page that says when its address changes need not be asked in each call: that costs half of a call. */
  const navigation = (page as { navigation?: EventTarget } | undefined)?.navigation;
  return {
    place: () =>
      guard(() => {
        if (!href || (!navigation && href !== page.location.href)) {
          href = page.location.href;
          here = { url: cut(href), path: cut(page.location.pathname), title: "" };
        }
        return here;
      }),
    whole: (place) =>
      guard(() => {
        const { document } = page;
        if (place && (place === here || !place.title)) place.title = cut(document.title);
        return place && { page: place, viewport: (viewport ??= { width: page.innerWidth, height: page.innerHeight }), referrer: cut(document.referrer), locale: page.navigator.language };
      }),
    resize: () => void (viewport = href = undefined),
  };
}
