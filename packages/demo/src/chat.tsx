/** A small chat on the SDK's own hook. The assistant is scripted and says so. */
import { useAnalytics } from "@twintrack/browser/react";
import { useEffect, useRef, useState, type FormEvent, type ReactNode } from "react";

import controls from "../../dashboard/src/parts/controls.module.css";
import styles from "./chat.module.css";
import type { Track } from "./fates";
import { newThread, REPLIES, SAMPLE, type Message } from "./thread";

export const Chat = ({ onTracked }: { onTracked: Track }): ReactNode => {
  const analytics = useAnalytics();
  const [threads, setThreads] = useState(() => [newThread(1)]);
  const [open, setOpen] = useState(threads[0]?.id);
  const [draft, setDraft] = useState("");
  const input = useRef<HTMLInputElement>(null);
  const thread = threads.find((candidate) => candidate.id === open) ?? threads[0];
  if (!thread) return null;

  const send = (submit: FormEvent): void => {
    submit.preventDefault();
    const content = draft.trim();
    if (!content) return;
    onTracked(analytics.trackMessage({ content, threadId: thread.id, metadata: { surface: "demo" } }).id, "message_sent", content);
    const reply = REPLIES[(thread.messages.length / 2) % REPLIES.length] ?? "";
    const added: Message[] = [
      { from: "you", text: content },
      { from: "assistant", text: reply },
    ];
    setThreads((all) => all.map((one) => (one.id === thread.id ? { ...one, messages: [...one.messages, ...added] } : one)));
    setDraft("");
  };
  const startThread = (): void => {
    const made = newThread(threads.length + 1);
    setThreads([...threads, made]);
    setOpen(made.id);
    onTracked(analytics.trackInteraction("create", "thread", { thread_id: made.id }).id, "create_thread");
  };
  const fillIn = (): void => {
    setDraft(SAMPLE);
    input.current?.focus();
  };

  return (
    <section className={styles.chat} aria-label="Chat">
      <div className={styles.bar}>
        <div className={styles.threads} role="group" aria-label="Threads">
          {threads.map((one) => (
            <button key={one.id} type="button" className={styles.thread} aria-pressed={one.id === thread.id} onClick={() => setOpen(one.id)}>
              {one.title}
            </button>
          ))}
          <button type="button" className={controls.quiet} data-testid="new-thread" onClick={startThread}>
            + New thread
          </button>
        </div>
        <Person onTracked={onTracked} />
      </div>
      <Messages key={thread.id} messages={thread.messages} onExample={fillIn} />
      <form className={styles.form} onSubmit={send}>
        <input
          ref={input}
          className={controls.input}
          aria-label="Message"
          placeholder="Write a message"
          value={draft}
          data-testid="message"
          onChange={(change) => setDraft(change.target.value)}
          autoComplete="off"
        />
        <button type="submit" className={controls.primary} data-testid="send" disabled={!draft.trim()}>
          Send
        </button>
      </form>
      <div className={styles.actions} role="group" aria-label="Other events">
        <button
          type="button"
          className={controls.button}
          data-testid="feature"
          onClick={() => onTracked(analytics.trackFeatureUsage("summarise", "opened", { thread_id: thread.id }).id, "feature_summarise_opened")}
        >
          Summarise thread
        </button>
        <button type="button" className={controls.button} data-testid="conversion" onClick={() => onTracked(analytics.trackConversion("upgrade", 29, { plan: "pro" }).id, "conversion_upgrade")}>
          Upgrade to Pro
        </button>
        <button type="button" className={controls.button} data-testid="error" onClick={() => onTracked(analytics.trackError(new Error("the export failed"), { feature: "export" }).id, "error_occurred")}>
          Cause an error
        </button>
      </div>
    </section>
  );
};

/** Who sends: nobody by name, or Ada by her e-mail address, which is stored as a pseudonym. */
const Person = ({ onTracked }: { onTracked: Track }): ReactNode => {
  const analytics = useAnalytics();
  const [person, setPerson] = useState<string>();
  const signIn = (): void => {
    const name = "ada@example.com";
    setPerson(name);
    onTracked(analytics.identify(name, { plan: "free" }).id, "identify");
  };
  const signOut = (): void => {
    analytics.reset();
    setPerson(undefined);
  };
  return person ? (
    <button type="button" className={controls.quiet} data-testid="reset" onClick={signOut}>
      Sign out {person}
    </button>
  ) : (
    <button type="button" className={controls.quiet} data-testid="identify" onClick={signIn}>
      Sign in as Ada
    </button>
  );
};

const Messages = ({ messages, onExample }: { messages: readonly Message[]; onExample: () => void }): ReactNode => {
  const list = useRef<HTMLOListElement>(null);
  useEffect(() => {
    list.current?.scrollTo({ top: list.current.scrollHeight });
  }, [messages]);
  if (messages.length === 0) {
    return (
      <div className={styles.hint}>
        <p className={styles.hintTitle}>Write something with personal data in it</p>
        <p>An e-mail address, a test SSN, a test card, an emoji. Then look beside the chat at what was stored.</p>
        <button type="button" className={controls.button} data-testid="sample" onClick={onExample}>
          Fill in an example
        </button>
      </div>
    );
  }
  return (
    <ol ref={list} className={styles.messages} tabIndex={0} aria-label="Messages" aria-live="polite">
      {messages.map((message, index) => (
        <li key={index} className={styles[message.from]}>
          <span className={styles.who}>{message.from === "you" ? "You" : "Scripted assistant"}</span>
          <p>{message.text}</p>
        </li>
      ))}
    </ol>
  );
};
