/** What the pages ask, how often, and when they ask again. */

import { QueryCache, QueryClient, queryOptions } from "@tanstack/react-query";
import { ApiError, api, type Session } from "./api";
import { type Live, mergeLive, PAGE } from "./live";
import { madeAt } from "./identifier";

/** Milliseconds between two looks at a failing endpoint. */
const AFTER_ERROR = 5000;
/** An id younger than this (milliseconds) may still be on its way. */
const YOUNG = 120_000;

const isSession = { queryKey: ["session"] } as const;

export const createClient = (): QueryClient => {
  const client: QueryClient = new QueryClient({
    queryCache: new QueryCache({
      onError: (error, query) => {
        // Whatever is asked, a lost session shows the sign-in form.
        if (error instanceof ApiError && error.status === 401 && query.queryKey[0] !== "session") {
          client.setQueryData(isSession.queryKey, null);
        }
      },
    }),
    defaultOptions: {
      queries: {
        retry: (failures, error) => failures < 1 && error instanceof ApiError && (error.status === 0 || error.status >= 500),
        retryDelay: 400,
        refetchOnWindowFocus: true,
        staleTime: 0,
      },
    },
  });
  return client;
};

/** Whether the server shows them the project's people and keys. */
export const mayGiveAccess = (session: Session | null | undefined): boolean => session?.permissions.includes("access") ?? false;

const every =
  (milliseconds: number) =>
  ({ state }: { state: { status: string } }): number =>
    state.status === "error" ? AFTER_ERROR : milliseconds;

export const queries = {
  /** null: nobody is signed in. */
  session: () =>
    queryOptions({
      ...isSession,
      queryFn: async ({ signal }): Promise<Session | null> => {
        try {
          return await api.session(signal);
        } catch (error) {
          if (error instanceof ApiError && error.status === 401) return null;
          throw error;
        }
      },
      staleTime: 60_000,
    }),

  pipeline: () =>
    queryOptions({ queryKey: ["pipeline"], queryFn: ({ signal }) => api.pipeline(signal), refetchInterval: every(2000) }),

  activity: (minutes: number) =>
    queryOptions({
      queryKey: ["activity", minutes],
      queryFn: ({ signal }) => api.activity({ minutes, top: 8 }, signal),
      refetchInterval: every(5000),
      placeholderData: (before) => before,
    }),

  live: () =>
    queryOptions({
      queryKey: ["live"],
      queryFn: async ({ client, signal }): Promise<Live> => {
        const before = client.getQueryData<Live>(["live"]);
        const page = await api.live({ limit: PAGE, after: before?.cursor || undefined }, signal);
        return mergeLive(before, page, Date.now());
      },
      refetchInterval: every(1000),
      gcTime: 60_000,
      structuralSharing: false,
    }),

  trace: (eventId: string) =>
    queryOptions({
      queryKey: ["trace", eventId],
      queryFn: ({ signal }) => api.trace(eventId, signal),
      refetchInterval: ({ state }) => {
        const made = madeAt(eventId);
        const young = made !== null && Math.abs(Date.now() - made) < YOUNG;
        if (state.status === "error") return young ? 1000 : false;
        if (state.data?.fate === "in_spool") return 1000;
        // Vendors answer after the store does.
        return young ? 2000 : 15_000;
      },
    }),

  masking: () =>
    queryOptions({ queryKey: ["masking"], queryFn: ({ signal }) => api.masking(signal), refetchInterval: every(2000) }),

  /** Asked again when the rules changed. Forgotten as soon as the page shows another text. */
  tried: (text: string, version: string | undefined) =>
    queryOptions({
      queryKey: ["tried", text, version],
      queryFn: ({ signal }) => api.mask(text, signal),
      enabled: text.trim() !== "" && version !== undefined,
      placeholderData: (before) => before,
      refetchOnWindowFocus: false,
      gcTime: 0,
    }),

  /** Asked only for those who may see keys: a refusal on each visit would teach nobody anything. */
  keys: (session: Session | null | undefined) =>
    queryOptions({
      queryKey: ["keys"],
      queryFn: ({ signal }) => api.keys(signal),
      staleTime: 30_000,
      enabled: mayGiveAccess(session),
    }),

  people: (session: Session | null | undefined) =>
    queryOptions({
      queryKey: ["people"],
      queryFn: ({ signal }) => api.people(signal),
      staleTime: 30_000,
      enabled: mayGiveAccess(session),
    }),
} as const;
