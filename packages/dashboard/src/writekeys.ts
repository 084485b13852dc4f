import type { Key } from "./api";

/** Keys a page may carry and that still work, newest first. */
export const publicWriteKeys = (keys: readonly Key[]): (Key & { write_key: string })[] =>
  keys
    .filter((key): key is Key & { write_key: string } => key.write_key !== null && key.revoked_at === null && (key.expires_at === null || Date.parse(key.expires_at) > Date.now()))
    .sort((a, b) => b.created_at.localeCompare(a.created_at));
