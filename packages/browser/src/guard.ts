/** Nothing of ours is ever thrown into the page that hosts us. */
export function guard<T>(work: () => T, otherwise: T): T {
  try {
    return work();
  } catch {
    return otherwise;
  }
}
