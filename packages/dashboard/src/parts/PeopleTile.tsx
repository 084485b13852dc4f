import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link2, UserRoundMinus, UserRoundPlus } from "lucide-react";
import { type FormEvent, useState } from "react";
import { api, type Person, type Session } from "../api";
import { queries } from "../queries";
import styles from "./Access.module.css";
import { Chip } from "./Chip";
import { ConfirmButton } from "./ConfirmButton";
import controls from "./controls.module.css";
import { RelativeInstant } from "./Instant";
import { Problem } from "./Problem";
import { Bone, Empty, Tile } from "./Tile";
import { Told } from "./Told";

type Secret = { title: string; note: string; text: string };

const PASS_ON = "Pass it on where only they read it. It is good once and not shown again.";

/** Who is a member of the project, who is invited, and what each may do. */
export const PeopleTile = ({ session }: { session: Session }) => {
  const people = useQuery(queries.people(session));
  const client = useQueryClient();
  const [told, setTold] = useState<Secret | null>(null);
  const settled = { onSettled: () => client.invalidateQueries({ queryKey: ["people"] }) };
  const invite = useMutation({
    mutationFn: api.invite,
    onSuccess: ({ link }, { email }) => setTold({ title: `Invitation of ${email}`, note: PASS_ON, text: link }),
    ...settled,
  });
  const link = useMutation({
    mutationFn: (person: Person) => api.signInLink(person.id),
    onSuccess: (answer, person) => setTold({ title: `Sign-in link of ${person.email}`, note: PASS_ON, text: answer.link }),
    ...settled,
  });
  const change = useMutation({ mutationFn: api.changeRole, ...settled });
  const remove = useMutation({ mutationFn: api.removePerson, ...settled });
  const onSubmit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    const data = new FormData(form);
    invite.mutate(
      { email: String(data.get("email")).trim(), role: String(data.get("role")) },
      { onSuccess: () => form.reset() },
    );
  };
  const error = invite.error ?? link.error ?? change.error ?? remove.error;
  return (
    <Tile title="People" note="They sign in by password or by link" query={people} skeleton={<Bone height="160px" />} flush>
      {({ people: all, gives }) => {
        const roles = gives.filter((role) => !["write", "server", "read"].includes(role));
        return (
          <>
            <form className={styles.form} onSubmit={onSubmit}>
              <label>
                E-mail address
                <input name="email" type="email" required maxLength={254} autoComplete="off" className={controls.input} />
              </label>
              <label>
                Role
                <select name="role" defaultValue="viewer" className={controls.input}>
                  {roles.map((role) => (
                    <option key={role}>{role}</option>
                  ))}
                </select>
              </label>
              <button type="submit" className={controls.primary} disabled={invite.isPending}>
                <UserRoundPlus size={15} aria-hidden />
                Make an invitation
              </button>
            </form>
            <Problem error={error} />
            {told && <Told {...told} onClose={() => setTold(null)} />}
            {all.length === 0 ? (
              <Empty title="Nobody yet">
                <p>Invite the first person as owner: a key is for programs.</p>
              </Empty>
            ) : (
              <ul className={styles.rows}>
                {all.map((person) => (
                  <li key={person.id} className={styles.row}>
                    <span className={styles.who}>
                      {person.email}
                      {person.state === "invited" && <Chip tone="warn">invited</Chip>}
                    </span>
                    <span className={styles.facts}>
                      {person.state === "invited" && person.expires_at ? (
                        <>
                          link ends <RelativeInstant at={person.expires_at} />
                        </>
                      ) : person.seen_at ? (
                        <>
                          last here <RelativeInstant at={person.seen_at} />
                        </>
                      ) : (
                        "not signed in now"
                      )}
                    </span>
                    <span className={styles.actions}>
                      {person.state === "member" && roles.includes(person.role) ? (
                        <>
                          <select
                            className={controls.input}
                            aria-label={`Role of ${person.email}`}
                            value={person.role}
                            disabled={change.isPending}
                            onChange={(event) => change.mutate({ id: person.id, role: event.target.value })}
                          >
                            {roles.map((role) => (
                              <option key={role}>{role}</option>
                            ))}
                          </select>
                          <button type="button" className={controls.quiet} onClick={() => link.mutate(person)} aria-label={`Sign-in link: ${person.email}`}>
                            <Link2 size={15} aria-hidden />
                            Link
                          </button>
                        </>
                      ) : (
                        <Chip>{person.role}</Chip>
                      )}
                      {gives.includes(person.role) && (
                        <ConfirmButton
                          icon={UserRoundMinus}
                          word="Remove"
                          again="Really remove"
                          of={person.email}
                          disabled={remove.isPending}
                          onConfirm={() => remove.mutate(person.id)}
                        />
                      )}
                    </span>
                  </li>
                ))}
              </ul>
            )}
          </>
        );
      }}
    </Tile>
  );
};
