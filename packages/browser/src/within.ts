import type { Clockwork } from "./environment";

/** The work's outcome, or what stands in for it where the work takes too long. */
export const within = <T>(clockwork: Clockwork, work: Promise<T>, milliseconds: number, late: () => T | Promise<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    const timer = clockwork.after(() => resolve(late()), milliseconds);
    work.then(resolve, reject).finally(() => clockwork.cancel(timer));
  });
