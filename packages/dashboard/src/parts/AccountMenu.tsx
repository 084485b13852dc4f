import { useMutation, useQueryClient } from "@tanstack/react-query";
import { ChevronDown, LogOut } from "lucide-react";
import { api, type Session } from "../api";
import { sentence } from "../format";
import { queries } from "../queries";
import styles from "./AccountMenu.module.css";
import controls from "./controls.module.css";

/** Which project this is, who reads it, and the way out. */
export const AccountMenu = ({ session }: { session: Session }) => {
  const client = useQueryClient();
  const signOut = useMutation({
    mutationFn: api.signOut,
    onSuccess: () => {
      client.setQueryData(queries.session().queryKey, null);
      // Nothing one reader saw may be left for the next.
      client.removeQueries({ predicate: ({ queryKey }) => queryKey[0] !== "session" });
    },
  });
  const move = useMutation({
    mutationFn: api.move,
    onSuccess: (moved) => {
      client.setQueryData(queries.session().queryKey, moved);
      void client.resetQueries({ predicate: ({ queryKey }) => queryKey[0] !== "session" });
    },
  });
  const error = signOut.error ?? move.error;
  return (
    <>
      <button type="button" className={styles.opener} popoverTarget="account">
        <span className={styles.project}>{session.project}</span>
        <span className={styles.environment}>{session.environment}</span>
        <ChevronDown size={14} aria-hidden />
        <span className="visually-hidden">Account</span>
      </button>
      <div id="account" popover="auto" className={styles.menu}>
        <dl className={styles.facts}>
          <dt>Signed in as</dt>
          <dd>{session.name}</dd>
          <dt>Role</dt>
          <dd>{session.role}</dd>
          <dt>Project</dt>
          <dd>
            {session.project}, {session.environment}
          </dd>
        </dl>
        {session.person && session.environments.length > 1 && (
          <label className={styles.environments}>
            <span>Environment</span>
            <select className={controls.input} value={session.environment} disabled={move.isPending} onChange={(event) => move.mutate(event.target.value)}>
              {session.environments.map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
        )}
        {error && <p role="alert">{sentence(error.message)}</p>}
        <button type="button" className={controls.button} onClick={() => signOut.mutate()} disabled={signOut.isPending}>
          <LogOut size={15} aria-hidden />
          Sign out
        </button>
      </div>
    </>
  );
};
