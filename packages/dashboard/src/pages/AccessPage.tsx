import { useQuery } from "@tanstack/react-query";
import { KeysTile } from "../parts/KeysTile";
import { PeopleTile } from "../parts/PeopleTile";
import { Empty } from "../parts/Tile";
import { mayGiveAccess, queries } from "../queries";
import { useTitle } from "../title";
import pages from "./Page.module.css";

/** Who and what comes in: people with roles, keys with bounds. */
export const AccessPage = () => {
  useTitle("People and keys");
  const { data: session } = useQuery(queries.session());
  if (!session) return null;
  return (
    <div className={pages.stack}>
      <h1>People and keys</h1>
      {mayGiveAccess(session) ? (
        <>
          <PeopleTile session={session} />
          <KeysTile session={session} />
        </>
      ) : (
        <Empty title="This page is for owners and admins">
          <p>You are signed in as {session.role}. Ask an owner where somebody or something is to be let in.</p>
        </Empty>
      )}
    </div>
  );
};
