/** A small chat on the SDK's own hook. The assistant is scripted and says so. */
import { useAnalytics } from "@twintrack/browser/react";
import { useState, type FormEvent, type ReactNode } from "react";

interface Message {
  id: number;
  from: "you" | "assistant";
  text: string;
}

interface Thread {
  id: string;
  title: string;
  messages: Message[];
}

const REPLIES = [
  "Noted. Look to the panel: your text reached our ClickHouse masked, and no vendor saw it.",
  "Got it. The event's name and id went to Statsig and the data layer; the text did not.",
  "Thanks. Try a card number such as 4111 1111 1111 1111 and see what is stored.",
];
const SAMPLE = "Reach me at ada@example.com, SSN 078-05-1120, card 4111 1111 1111 1111 🎉";

const newThread = (number: number): Thread => ({ id: `thread-${crypto.randomUUID().slice(0, 8)}`, title: `Thread ${number}`, messages: [] });

export const Chat = ({ onTracked }: { onTracked: (id: string, label: string) => void }): ReactNode => {
  const analytics = useAnalytics();
  const [threads, setThreads] = useState<Thread[]>(() => [newThread(1)]);
  const [open, setOpen] = useState(threads[0]?.id);
  const [draft, setDraft] = useState("");
  const [person, setPerson] = useState<string>();
  const thread = threads.find((candidate) => candidate.id === open) ?? threads[0];
  if (!thread) return null;

  const send = (submit: FormEvent): void => {
    submit.preventDefault();
    const content = draft.trim();
    if (!content) return;
    onTracked(analytics.trackMessage({ content, threadId: thread.id, metadata: { surface: "demo" } }), "message_sent");
    const reply = REPLIES[thread.messages.length % REPLIES.length] ?? "";
    const at = Date.now();
    const added: Message[] = [{ id: at, from: "you", text: content }, { id: at + 1, from: "assistant", text: reply }];
    setThreads((all) => all.map((one) => (one.id === thread.id ? { ...one, messages: [...one.messages, ...added] } : one)));
    setDraft("");
  };
  const startThread = (): void => {
    const made = newThread(threads.length + 1);
    setThreads([...threads, made]);
    setOpen(made.id);
    onTracked(analytics.trackInteraction("create", "thread", { thread_id: made.id }), "create_thread");
  };
  const signIn = (): void => {
    const name = "ada@example.com";
    setPerson(name);
    onTracked(analytics.identify(name, { plan: "free" }), "identify");
  };
  const signOut = (): void => {
    analytics.reset();
    setPerson(undefined);
  };

  return (
    <section className="chat" aria-label="Chat">
      <div className="threads" role="group" aria-label="Threads">
        {threads.map((one) => (
          <button key={one.id} type="button" aria-pressed={one.id === thread.id} onClick={() => setOpen(one.id)}>
            {one.title}
          </button>
        ))}
        <button type="button" className="plain" data-testid="new-thread" onClick={startThread}>
          + New thread
        </button>
        <span className="grow" />
        {person ? (
          <button type="button" className="plain" data-testid="reset" onClick={signOut}>
            Sign out {person}
          </button>
        ) : (
          <button type="button" className="plain" data-testid="identify" onClick={signIn}>
            Sign in as Ada
          </button>
        )}
      </div>
      <ol className="messages" aria-live="polite">
        {thread.messages.length === 0 && (
          <li className="hint">
            <p>Write something with personal data in it: an e-mail address, a test SSN, a test card, an emoji.</p>
            <button type="button" data-testid="sample" onClick={() => setDraft(SAMPLE)}>
              Fill in an example
            </button>
          </li>
        )}
        {thread.messages.map((message) => (
          <li key={message.id} className={message.from}>
            <span className="who">{message.from === "you" ? "You" : "Scripted assistant"}</span>
            <p>{message.text}</p>
          </li>
        ))}
      </ol>
      <form onSubmit={send}>
        <input aria-label="Message" placeholder="Message" value={draft} data-testid="message" onChange={(change) => setDraft(change.target.value)} autoComplete="off" />
        <button type="submit" className="primary" data-testid="send" disabled={!draft.trim()}>
          Send
        </button>
      </form>
      <div className="actions" role="group" aria-label="Other events">
        <button type="button" data-testid="feature" onClick={() => onTracked(analytics.trackFeatureUsage("summarise", "opened", { thread_id: thread.id }), "feature_summarise_opened")}>
          Summarise thread
        </button>
        <button type="button" data-testid="conversion" onClick={() => onTracked(analytics.trackConversion("upgrade", 29, { plan: "pro" }), "conversion_upgrade")}>
          Upgrade to Pro
        </button>
        <button type="button" data-testid="error" onClick={() => onTracked(analytics.trackError(new Error("the export failed"), { feature: "export" }), "error_occurred")}>
          Cause an error
        </button>
      </div>
    </section>
  );
};
