/**
 * What waits, on disk: IndexedDB, the one store of a browser that keeps an event through a crash some milliseconds later.
 *
 * The events of one slice are one record, since a browser charges for each request, not for each event. A record only ever
 * gets shorter, and goes with its last event. Writes are relaxed (they reach the system, not the platter). Every promise
 * rejects where the browser has no such store, has it blocked, full, or hanging: the caller then goes on in memory, and is let
 * try again after a minute.
 */
import type { Clockwork } from "./environment";
import { within } from "./within";

/** The events of one slice that are not settled. */
export interface Slice {
  /** Its first event as it was stored, and the number of the slice in its page. */
  id: string;
  /** A line for each event: one text costs a browser less than a list of them. */
  text: string;
}

/** Who may send, where the browser has no Web Locks. */
export interface Lease {
  id: "~";
  /** A tab. */
  owner: string;
  /** Milliseconds since 1970. */
  until: number;
}

/** As it lies there: anyone who can run script on this site may have written it. */
export interface Found {
  slices: Slice[];
  lease?: Lease | undefined;
}

export interface Disk {
  begin(): Promise<unknown>;
  /** Writes slices as they are now; an empty one goes. */
  persist(slices: readonly { id: Slice["id"]; rows: readonly { text: string }[] }[], lease?: Lease): Promise<unknown>;
  /** All that lies there; `claim` may answer it with a lease, written before anyone else can read. */
  read(claim?: (lease: Lease | undefined) => Lease | undefined): Promise<Found>;
  /** Forgets everything, also what other tabs put there. */
  empty(): void;
}

/** A store that answers nothing for so long will not answer. */
const MOST_MS = 5_000;
/** One that failed is left alone for so long: it would fail each slice anew. */
const REST_MS = 60_000;

const STORE = "slices";

/**
 * `factory` is asked for when it is needed: a browser takes a millisecond to give it. The name on disk ends with the form of
 * what lies there.
 */
export function createDisk(factory: () => IDBFactory, name: string, clockwork: Clockwork): Disk {
  let opening: Promise<IDBDatabase> | undefined;
  let restsUntil = 0;

  const open = (): Promise<IDBDatabase> =>
    (opening ??= new Promise<IDBDatabase>((resolve, reject) => {
      const request = factory().open(name + " 3");
      request.onupgradeneeded = () => {
        request.result.createObjectStore(STORE, { keyPath: "id" });
        // Of an earlier build, which no page reads any more.
        factory().deleteDatabase(name + " 2");
      };
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
      (clockwork.ticks() < restsUntil ? Promise.reject() : open()).then(
        (database) =>
          new Promise((resolve, reject) => {
            const transaction = database.transaction(STORE, mode, { durability: "relaxed" });
            transaction.oncomplete = resolve;
            transaction.onabort = reject;
            work(transaction.objectStore(STORE));
          }),
      ),
      MOST_MS,
      () => Promise.reject(),
    ).catch(() => {
      if (opening) restsUntil = clockwork.ticks() + REST_MS;
      opening = undefined;
      throw 0;
    });

  return {
    begin: open,
    persist: (slices, lease) =>
      run("readwrite", (store) => {
        for (const { id, rows } of slices) {
          if (rows.length) store.put({ id, text: rows.map(({ text }) => text).join("\n") });
          else store.delete(id);
        }
        if (lease) store.put(lease);
      }),
    async read(claim) {
      const found: Found = { slices: [] };
      await run(claim ? "readwrite" : "readonly", (store) => {
        const all = store.getAll() as IDBRequest<(Slice | Lease)[]>;
        all.onsuccess = () => {
          found.slices = all.result.filter((one): one is Slice => one.id !== "~" || !(found.lease = one as Lease));
          const mine = claim?.(found.lease);
          if (mine) store.put((found.lease = mine));
        };
      });
      return found;
    },
    empty() {
      // Every tab's connection closes at this. Ours at once: what is written from now on is for the new store.
      opening?.then((database) => database.close(), () => undefined);
      opening = undefined;
      factory().deleteDatabase(name + " 2");
      factory().deleteDatabase(name + " 3");
    },
  };
}
