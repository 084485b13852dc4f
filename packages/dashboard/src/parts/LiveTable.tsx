import { Link, useNavigate } from "@tanstack/react-router";
import { Fragment, type MouseEvent, memo } from "react";
import { classes } from "../classes";
import type { LiveEvent } from "../live";
import { BotChip, IdentityChip, MaskedChip } from "./Chip";
import { ClockInstant, RelativeInstant } from "./Instant";
import styles from "./LiveTable.module.css";

/** How long a row counts as new, in milliseconds. */
const NEW_FOR = 3000;

/** Said where a row has nothing to say. */
const None = () => (
  <span className={styles.none}>
    <span aria-hidden>–</span>
    <span className="visually-hidden">none</span>
  </span>
);

export const LiveTable = ({ events, skew }: { events: readonly LiveEvent[]; skew: number }) => (
  <table className={styles.table}>
    <caption className="visually-hidden">Live events, newest first</caption>
    <thead>
      <tr>
        <th scope="col" className={styles.when}>
          Received
        </th>
        <th scope="col" className={styles.event}>
          Event
        </th>
        <th scope="col" className={styles.wide}>
          Value
        </th>
        <th scope="col" className={styles.who}>
          Who
        </th>
        <th scope="col" className={styles.chipColumn}>
          Masked
        </th>
        <th scope="col" className={classes(styles.wide, styles.source)}>
          Source
        </th>
      </tr>
    </thead>
    <tbody>
      {events.map((event) => (
        <Fragment key={event.event_id}>
          <Row event={event} skew={skew} />
          {event.gapBelow && (
            <tr className={styles.gap}>
              <td colSpan={6}>Events came faster than this list can follow; some between these two are not listed. All are counted above.</td>
            </tr>
          )}
        </Fragment>
      ))}
    </tbody>
  </table>
);

const Row = memo(({ event, skew }: { event: LiveEvent; skew: number }) => {
  const navigate = useNavigate();
  // The link covers the row, but what has a tooltip lies above the link.
  const onClick = ({ target, defaultPrevented }: MouseEvent) => {
    const onLink = target instanceof Element && target.closest("a") !== null;
    const selecting = window.getSelection()?.isCollapsed === false;
    if (!onLink && !selecting && !defaultPrevented) void navigate({ to: "/events/$eventId", params: { eventId: event.event_id } });
  };
  // The table keeps an absent id as an empty text.
  const who = event.user_id || event.anonymous_id;
  return (
    <tr className={classes(styles.row, event.seenAt > 0 && Date.now() - event.seenAt < NEW_FOR && styles.fresh)} data-event-id={event.event_id} onClick={onClick}>
      <td className={styles.when}>
        <span className={styles.clock}>
          <ClockInstant at={event.server_timestamp} />
        </span>
        <RelativeInstant at={event.server_timestamp} skew={skew} />
      </td>
      <td className={styles.event}>
        <span className={styles.named}>
          <Link to="/events/$eventId" params={{ eventId: event.event_id }} className={styles.link}>
            {event.event_name}
          </Link>
          {event.is_bot && <BotChip />}
        </span>
      </td>
      <td className={classes(styles.wide, styles.value)} title={event.event_value || undefined}>
        {event.event_value || <None />}
      </td>
      <td className={styles.who}>
        <span className={styles.person}>
          <IdentityChip identity={event.identity} />
          {who && (
            <code className={styles.id} title={who}>
              {who}
            </code>
          )}
        </span>
      </td>
      <td className={styles.chipColumn}>
        <MaskedChip masked={event.masked} />
      </td>
      <td className={classes(styles.wide, styles.source)}>{event.source || <None />}</td>
    </tr>
  );
});
Row.displayName = "Row";
