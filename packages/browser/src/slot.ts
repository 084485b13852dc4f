/** A text under a name in the browser's storage, where there is one that works: elsewhere it is never there. */
import type { Page } from "./environment";
import { guard } from "./guard";

/** Nothing reads it, a text writes it, `null` takes it away. Storage is asked for when it is used: a browser takes a millisecond to give it. */
export type Slot = (text?: string | null) => unknown;

export const createSlot =
  (page: Page | undefined, name: string): Slot =>
  (text) =>
    guard(() => {
      const { localStorage } = page as Page;
      return text ? localStorage.setItem(name, text) : text === null ? localStorage.removeItem(name) : localStorage.getItem(name);
    });
