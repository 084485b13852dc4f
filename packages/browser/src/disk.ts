/**
 * What waits, on disk: IndexedDB, the one store of a browser that keeps an event through a crash some milliseconds later.
 *
 * Writes are relaxed (they reach the system, not the platter) and come in micro-batches. Every promise rejects where the
 * browser has no such store, has it blocked, full, or hanging: the caller then goes on in memory.
 */
import type { Clockwork } from "./environment";
import { within } from "./within";

/** An event as it lies on disk. */
export interface Kept {
  id: string;
  /** Who did it. A batch carries one identity. */
  who: string;
  text: string;
}

/** What all tabs of a site must know about the sending, beside the events. Its id sorts after every event's. */
export interface Standing {
  id: "~";
  /** Failed sends in a row. */
  failures: number;
  /** No request before this time, milliseconds since 1970. */
  until: number;
  /** How long that wait was: where more is left of it, the clock went back. */
  span: number;
  /** Whether the service asked for the wait. */
  asked: boolean;
  /** The tab that may send until `lease`, where the browser has no Web Locks. */
  owner?: string;
  lease?: number;
}

export interface Found {
  kept: Kept[];
  standing: Standing | undefined;
}

export interface Disk {
  open(): Promise<unknown>;
  /** Keeps events and forgets others, together. */
  write(rows: readonly (Kept | Standing)[], gone: readonly string[]): Promise<unknown>;
  /** All that lies there; `claim` may answer it with a standing, written before anyone else can read. */
  read(claim?: (found: Found) => Standing | undefined): Promise<Found>;
  /** Forgets everything, also what other tabs put there. */
  clear(): void;
}

/** A store that answers nothing for so long will not answer. */
const MOST_MS = 5_000;

const STORE = "rows";

export function createDisk(factory: () => IDBFactory, name: string, clockwork: Clockwork): Disk {
  let opening: Promise<IDBDatabase> | undefined;

  const open = (): Promise<IDBDatabase> =>
    (opening ??= new Promise<IDBDatabase>((resolve, reject) => {
      const request = factory().open(name, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
      request.onerror = reject;
      request.onsuccess = () => {
        const database = request.result;
        database.onversionchange = database.onclose = () => {
          database.close();
          opening = undefined;
        };
        resolve(database);
      };
    }));

  const run = (mode: IDBTransactionMode, work: (store: IDBObjectStore) => void): Promise<unknown> =>
    within(
      clockwork,
      open().then(
        (database) =>
          new Promise((resolve, reject) => {
            const transaction = database.transaction(STORE, mode, { durability: "relaxed" });
            transaction.oncomplete = resolve;
            transaction.onabort = reject;
            work(transaction.objectStore(STORE));
          }),
      ),
      MOST_MS,
      () => Promise.reject(new Error()),
    );

  return {
    open,
    write: (rows, gone) =>
      run("readwrite", (store) => {
        for (const row of rows) store.put(row);
        for (const id of gone) store.delete(id);
      }),
    async read(claim) {
      const found: Found = { kept: [], standing: undefined };
      await run(claim ? "readwrite" : "readonly", (store) => {
        const all = store.getAll() as IDBRequest<(Kept | Standing)[]>;
        all.onsuccess = () => {
          for (const row of all.result) {
            if (row.id === "~") found.standing = row as Standing;
            else found.kept.push(row as Kept);
          }
          const mine = claim?.(found);
          if (mine) store.put(mine);
        };
      });
      return found;
    },
    clear() {
      // Every tab's connection closes at this, ours too, and the next one makes a new store.
      factory().deleteDatabase(name);
    },
  };
}
