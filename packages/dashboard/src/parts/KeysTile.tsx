import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { KeyRound, RotateCw, Trash2 } from "lucide-react";
import { type FormEvent, useState } from "react";
import { api, type Key, type Session } from "../api";
import { classes } from "../classes";
import { useNow } from "../now";
import { queries } from "../queries";
import styles from "./Access.module.css";
import { Chip } from "./Chip";
import { ConfirmButton } from "./ConfirmButton";
import controls from "./controls.module.css";
import { RelativeInstant } from "./Instant";
import { Problem } from "./Problem";
import { Bone, Tile } from "./Tile";
import { Told } from "./Told";

const listed = (text: FormDataEntryValue | null): string[] => String(text ?? "").split(/[\s,]+/).filter(Boolean);

/** The project's keys: from where and until when each is good, and when it was last used. */
export const KeysTile = ({ session }: { session: Session }) => {
  const keys = useQuery(queries.keys(session));
  const people = useQuery(queries.people(session));
  const client = useQueryClient();
  const now = useNow();
  const [told, setTold] = useState<{ title: string; note: string; text: string } | null>(null);
  const [all, setAll] = useState(false);
  const gives = people.data?.gives ?? [];
  const settled = { onSettled: () => client.invalidateQueries({ queryKey: ["keys"] }) };
  const make = useMutation({
    mutationFn: api.makeKey,
    onSuccess: ({ key }, { role }) => setTold({ title: `New ${role} key`, note: "It is not shown again.", text: key }),
    ...settled,
  });
  const rotate = useMutation({
    mutationFn: (key: Key) => api.rotateKey(key.id),
    onSuccess: (answer, key) =>
      setTold({ title: `Successor of ${key.prefix}…`, note: "It is not shown again. The old key stays good for 24 hours.", text: answer.key }),
    ...settled,
  });
  const revoke = useMutation({ mutationFn: api.revokeKey, ...settled });
  const onSubmit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    const data = new FormData(form);
    make.mutate(
      {
        role: String(data.get("role")),
        origins: listed(data.get("origins")),
        networks: listed(data.get("networks")),
        days: Number(data.get("days")) || 0,
      },
      { onSuccess: () => form.reset() },
    );
  };
  const isOver = (key: Key) => key.revoked_at !== null || (key.expires_at !== null && Date.parse(key.expires_at) <= now);
  return (
    <Tile title="Keys" note={`For pages, servers and programs, in ${session.environment}`} query={keys} skeleton={<Bone height="160px" />} flush>
      {({ keys: found }) => {
        const newest = [...found].sort((a, b) => b.created_at.localeCompare(a.created_at));
        const live = newest.filter((key) => !isOver(key));
        const over = newest.length - live.length;
        return (
          <>
            <form className={styles.form} onSubmit={onSubmit}>
              <label>
                Role
                <select name="role" defaultValue="write" className={controls.input}>
                  {gives.map((role) => (
                    <option key={role}>{role}</option>
                  ))}
                </select>
              </label>
              <label>
                <span>
                  Origins <small>for pages; none: any</small>
                </span>
                <input name="origins" placeholder="https://*.shop.example" autoComplete="off" spellCheck={false} className={controls.input} />
              </label>
              <label>
                <span>
                  Networks <small>none: any</small>
                </span>
                <input name="networks" placeholder="203.0.113.0/24" autoComplete="off" spellCheck={false} className={controls.input} />
              </label>
              <label>
                <span>
                  Days <small>none: no end</small>
                </span>
                <input name="days" type="number" min={1} max={3650} inputMode="numeric" className={controls.input} />
              </label>
              <button type="submit" className={controls.primary} disabled={make.isPending}>
                <KeyRound size={15} aria-hidden />
                Make a key
              </button>
            </form>
            <Problem error={make.error ?? rotate.error ?? revoke.error} />
            {told && <Told {...told} onClose={() => setTold(null)} />}
            <ul className={styles.rows}>
              {(all ? newest : live).map((key) => (
                <li key={key.id} className={classes(styles.row, isOver(key) && styles.ended)}>
                  <span className={styles.who}>
                    <code>{key.prefix}…</code>
                    <Chip>{key.role}</Chip>
                    {key.environment !== session.environment && <Chip>{key.environment}</Chip>}
                    {isOver(key) && <Chip tone="bad">{key.revoked_at === null ? "ended" : "revoked"}</Chip>}
                  </span>
                  <span className={styles.facts}>
                    {key.used_at ? (
                      <>
                        used <RelativeInstant at={key.used_at} />
                      </>
                    ) : (
                      "never used"
                    )}
                    {key.expires_at && !isOver(key) && (
                      <>
                        , ends <RelativeInstant at={key.expires_at} />
                      </>
                    )}
                    {[...key.origins, ...key.networks].length > 0 && <>, from {[...key.origins, ...key.networks].join(", ")}</>}
                  </span>
                  <span className={styles.actions}>
                    {!isOver(key) && gives.includes(key.role) && (
                      <>
                        <button type="button" className={controls.quiet} onClick={() => rotate.mutate(key)} disabled={rotate.isPending} aria-label={`Rotate: ${key.prefix}`}>
                          <RotateCw size={15} aria-hidden />
                          Rotate
                        </button>
                        <ConfirmButton icon={Trash2} word="Revoke" again="Really revoke" of={key.prefix} disabled={revoke.isPending} onConfirm={() => revoke.mutate(key.id)} />
                      </>
                    )}
                  </span>
                </li>
              ))}
            </ul>
            {over > 0 && (
              <div className={styles.form}>
                <button type="button" className={controls.button} onClick={() => setAll(!all)} aria-pressed={all}>
                  {all ? "Hide what ended" : `Show ${over} that ended`}
                </button>
              </div>
            )}
          </>
        );
      }}
    </Tile>
  );
};
