import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useId, useState } from "react";
import { api } from "../api";
import controls from "../parts/controls.module.css";
import { CopyButton } from "../parts/CopyButton";
import { Mark } from "../parts/Mark";
import { Problem } from "../parts/Problem";
import { Segmented } from "../parts/Segmented";
import { ThemeButton } from "../parts/ThemeButton";
import { queries } from "../queries";
import { useTitle } from "../title";
import styles from "./SignInPage.module.css";

const COMMAND = "twintrack keys create --role owner";

/** The printed link leads here with `?link=used` where it was spent. */
const linkWasUsed = (): boolean => new URLSearchParams(window.location.search).get("link") === "used";

type Way = "key" | "password";
const WAYS: readonly { value: Way; word: string }[] = [
  { value: "key", word: "By key" },
  { value: "password", word: "By password" },
];

/** Takes a key, or an address and a password, and opens a session. Neither is kept by the page. */
export const SignInPage = () => {
  const client = useQueryClient();
  const field = useId();
  const problem = useId();
  const [way, setWay] = useState<Way>("key");
  const signIn = useMutation({
    mutationFn: api.signIn,
    onSuccess: (session) => client.setQueryData(queries.session().queryKey, session),
  });
  useTitle("Sign in");
  const onSubmit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const data = new FormData(event.currentTarget);
    const key = String(data.get("key") ?? "").trim();
    if (way === "password") signIn.mutate({ email: String(data.get("email")).trim(), password: String(data.get("password")) });
    else if (key !== "") signIn.mutate({ key });
  };
  const { error } = signIn;
  const wrong = error ? { "aria-invalid": true, "aria-describedby": problem } : {};
  return (
    <main className={styles.page}>
      <div className={styles.corner}>
        <ThemeButton />
      </div>
      <div className={styles.card}>
        <Mark size={40} />
        <h1>Sign in to Twintrack</h1>
        <p className={styles.soft}>
          {way === "key"
            ? "Paste a key with a person’s role, such as owner. It is exchanged for a session and not kept in this browser."
            : "With the address you were invited by. Forgot the password? An admin can make a link that signs you in."}
        </p>
        {linkWasUsed() && !error && (
          <p role="status" className={styles.notice}>
            That sign-in link was used before: it opens one session. Start the demo again for a new link, or paste a key.
          </p>
        )}
        <form className={styles.form} onSubmit={onSubmit} key={way}>
          <Segmented
            label="Way to sign in"
            value={way}
            options={WAYS}
            onChange={(chosen) => {
              signIn.reset();
              setWay(chosen);
            }}
          />
          {way === "key" ? (
            <>
              <label htmlFor={field}>Key</label>
              <input id={field} name="key" type="password" required autoFocus autoComplete="off" spellCheck={false} className={controls.input} {...wrong} />
            </>
          ) : (
            <>
              <label htmlFor={`${field}-email`}>E-mail address</label>
              <input id={`${field}-email`} name="email" type="email" required autoFocus autoComplete="username" className={controls.input} {...wrong} />
              <label htmlFor={field}>Password</label>
              <input id={field} name="password" type="password" required maxLength={200} autoComplete="current-password" className={controls.input} {...wrong} />
            </>
          )}
          <Problem id={problem} error={error} />
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
