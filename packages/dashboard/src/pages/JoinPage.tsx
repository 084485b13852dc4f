import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useEffect, useId, useState } from "react";
import { api } from "../api";
import controls from "../parts/controls.module.css";
import { Mark } from "../parts/Mark";
import { Problem } from "../parts/Problem";
import { ThemeButton } from "../parts/ThemeButton";
import { queries } from "../queries";
import { useTitle } from "../title";
import styles from "./SignInPage.module.css";

/** Where a link leads: an invitation, or a sign-in without a password. Its secret stands behind #, which no server sees. */
export const JoinPage = () => {
  useTitle("Join");
  const client = useQueryClient();
  const field = useId();
  const [token] = useState(() => window.location.hash.slice(1));
  useEffect(() => {
    // Out of the address bar, and out of what a shared screen shows.
    window.history.replaceState(window.history.state, "", "/join");
  }, []);
  const link = useQuery({ queryKey: ["link", token], queryFn: () => api.link(token), retry: false, staleTime: Infinity, enabled: token !== "" });
  const join = useMutation({
    mutationFn: api.signIn,
    onSuccess: (session) => {
      client.clear();
      client.setQueryData(queries.session().queryKey, session);
      window.location.replace("/");
    },
  });
  const invited = link.data?.kind === "invite";
  const onSubmit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    join.mutate({ token, password: String(new FormData(event.currentTarget).get("password") ?? "") });
  };
  return (
    <main className={styles.page}>
      <div className={styles.corner}>
        <ThemeButton />
      </div>
      <div className={styles.card}>
        <Mark size={40} />
        <h1>{invited ? "You are invited to Twintrack" : "Sign in to Twintrack"}</h1>
        {token === "" && <p className={styles.notice}>This address is good only as the whole link. Open the link again.</p>}
        {link.data && (
          <p className={styles.soft}>
            {link.data.email}, as <strong>{link.data.role}</strong> of the project <strong>{link.data.project}</strong>. The link is good once.
          </p>
        )}
        <Problem error={link.error ?? join.error} />
        {link.data && (
          <form className={styles.form} onSubmit={onSubmit}>
            <input type="hidden" name="username" autoComplete="username" value={link.data.email} readOnly />
            {invited && (
              <>
                <label htmlFor={field}>Password</label>
                <input id={field} name="password" type="password" minLength={12} maxLength={200} autoComplete="new-password" autoFocus className={controls.input} />
                <p className={styles.soft}>
                  12 characters or more. Leave it empty to come by link each time, or where you have an account here: that one keeps its password.
                </p>
              </>
            )}
            <button type="submit" className={controls.primary} disabled={join.isPending}>
              {join.isPending ? "One moment …" : invited ? "Join" : "Sign in"}
            </button>
          </form>
        )}
        {link.error && (
          <p className={styles.soft}>
            <a href="/">To the sign-in page</a>
          </p>
        )}
      </div>
    </main>
  );
};
