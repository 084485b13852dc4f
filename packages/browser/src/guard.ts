/** Nothing of ours is ever thrown into the page that hosts us. */
export function guard<T>(work: () => T, otherwise: T): T;
export function guard<T>(work: () => T): T | undefined;
export function guard<T>(work: () => T, otherwise?: T): T | undefined {
  try {
    return work();
  } catch {
    return otherwise;
  }
}
