import { useNavigate } from "@tanstack/react-router";
import { Search as SearchIcon } from "lucide-react";
import { type FormEvent, type Ref, useRef } from "react";
import { readIdentifier } from "../identifier";
import { usePreferences } from "../preferences";
import styles from "./Search.module.css";

/** "Where is my event?": takes an id, or any pasted text that holds one. */
export const Search = ({ ref }: { ref: Ref<HTMLInputElement> }) => {
  const navigate = useNavigate();
  const { shortcuts } = usePreferences();
  const form = useRef<HTMLFormElement>(null);
  const onSubmit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const eventId = readIdentifier(String(new FormData(event.currentTarget).get("id") ?? ""));
    if (eventId === "") return;
    void navigate({ to: "/events/$eventId", params: { eventId } });
    form.current?.reset();
  };
  return (
    <form ref={form} role="search" className={styles.search} onSubmit={onSubmit}>
      <SearchIcon size={15} aria-hidden />
      <input
        ref={ref}
        name="id"
        type="search"
        autoComplete="off"
        spellCheck={false}
        className={styles.input}
        placeholder="Where is my event? Paste its id"
        aria-label="Where is my event? Paste its id"
        aria-keyshortcuts={shortcuts ? "/" : undefined}
        onKeyDown={(event) => {
          if (event.key === "Escape") event.currentTarget.blur();
        }}
      />
      {shortcuts && <kbd aria-hidden>/</kbd>}
    </form>
  );
};
