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

/** What all tabs of a site must know about the sending, beside the events. */
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

/** As it lies there: anyone who can run script on this site may have written it. */
export interface Found {
  slices: Slice[];
  standing?: Standing | undefined;
}

export interface Disk {
  begin(): Promise<unknown>;
  /** Writes slices as they are now; an empty one goes. */
  persist(slices: readonly { id: Slice["id"]; rows: readonly { text: string }[] }[], standing?: Standing): Promise<unknown>;
  /** All that lies there; `claim` may answer it with a standing, written before anyone else can read. */
  read(claim?: (standing: Standing | undefined) => Standing | undefined): Promise<Found>;
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
    persist: (slices, standing) =>
      run("readwrite", (store) => {
        for (const { id, rows } of slices) {
          if (rows.length) store.put({ id, text: rows.map(({ text }) => text).join("\n") });
          else store.delete(id);
        }
        if (standing) store.put(standing);
      }),
    async read(claim) {
      const found: Found = { slices: [] };
      await run(claim ? "readwrite" : "readonly", (store) => {
        const all = store.getAll() as IDBRequest<(Slice | Standing)[]>;
        all.onsuccess = () => {
          found.slices = all.result.filter((one): one is Slice => one.id !== "~" || !(found.standing = one as Standing));
          const mine = claim?.(found.standing);
          if (mine) store.put((found.standing = mine));
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
