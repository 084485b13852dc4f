import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useId } from "react";
import { ApiError, api } from "../api";
import { sentence } from "../format";
import controls from "../parts/controls.module.css";
import { CopyButton } from "../parts/CopyButton";
import { Hint } from "../parts/Hint";
import { Mark } from "../parts/Mark";
import { ThemeButton } from "../parts/ThemeButton";
import { queries } from "../queries";
import { useTitle } from "../title";
import styles from "./SignInPage.module.css";

const COMMAND = "twintrack keys create --role owner";

/** The printed link leads here with `?link=used` where it was spent. */
const linkWasUsed = (): boolean => new URLSearchParams(window.location.search).get("link") === "used";

/** Takes a key and opens a session with it. The key is never kept by the page. */
export const SignInPage = () => {
  const client = useQueryClient();
  const field = useId();
  const problem = useId();
  const signIn = useMutation({
    mutationFn: api.signIn,
    onSuccess: (session) => client.setQueryData(queries.session().queryKey, session),
  });
  useTitle("Sign in");
  const onSubmit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const key = String(new FormData(event.currentTarget).get("key") ?? "").trim();
    if (key !== "") signIn.mutate(key);
  };
  const { error } = signIn;
  return (
    <main className={styles.page}>
      <div className={styles.corner}>
        <ThemeButton />
      </div>
      <div className={styles.card}>
        <Mark size={40} />
        <h1>Sign in to Twintrack</h1>
        <p className={styles.soft}>Paste a key with a person’s role, such as owner. It is exchanged for a session and not kept in this browser.</p>
        {linkWasUsed() && !error && (
          <p role="status" className={styles.notice}>
            That sign-in link was used before: it opens one session. Start the demo again for a new link, or paste a key.
          </p>
        )}
        <form className={styles.form} onSubmit={onSubmit}>
          <label htmlFor={field}>Key</label>
          <input
            id={field}
            name="key"
            type="password"
            required
            autoFocus
            autoComplete="off"
            spellCheck={false}
            className={controls.input}
            aria-invalid={error ? true : undefined}
            aria-describedby={error ? problem : undefined}
          />
          {error && (
            <div id={problem} role="alert" className={styles.problem}>
              <p>{sentence(error.message)}</p>
              {error instanceof ApiError && error.hint && <p><Hint text={error.hint} /></p>}
            </div>
          )}
          <button type="submit" className={controls.primary} disabled={signIn.isPending}>
            {signIn.isPending ? "Signing in …" : "Sign in"}
          </button>
        </form>
        <div className={styles.how}>
          <h2>No key yet?</h2>
          <p className={styles.soft}>On the machine that runs Twintrack, make one. It is printed once:</p>
          <div className={styles.command}>
            <code>{COMMAND}</code>
            <CopyButton text={COMMAND} label="Copy the command" bare />
          </div>
          <p className={styles.soft}>
            Started with <code>--demo</code>? The terminal shows a one-time link that signs you in.
          </p>
        </div>
      </div>
    </main>
  );
};
