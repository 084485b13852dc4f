import { useState } from "react";
import { uuid7 } from "./identifier";

/** An id and a time for one event sent by hand; the same as long as the page is open. */
export const useSample = (): { eventId: string; now: Date } => {
  const [sample] = useState(() => {
    const now = new Date();
    return { eventId: uuid7(now.getTime(), (bytes) => void crypto.getRandomValues(bytes)), now };
  });
  return sample;
};
