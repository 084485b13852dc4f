import { ago, instant, preciseClock, secondClock } from "../format";
import { useNow } from "../now";
import { usePreferences } from "../preferences";

type InstantProps = {
  /** ISO 8601. */
  at: string;
  /** Server clock minus browser clock in milliseconds. Default 0. */
  skew?: number;
};

/** "3 s ago", with the exact time (always also in UTC) as a tooltip. */
export const RelativeInstant = ({ at, skew = 0 }: InstantProps) => {
  const now = useNow();
  const { zone } = usePreferences();
  const time = Date.parse(at);
  if (Number.isNaN(time)) return <>{at}</>;
  const exact = zone === "utc" ? instant(time, "utc") : `${instant(time, "local")}\n${instant(time, "utc")}`;
  return (
    <time dateTime={at} title={exact}>
      {ago(time, now + skew)}
    </time>
  );
};

/** "14:05:09", with day and zone as a tooltip. */
export const ClockInstant = ({ at }: { at: string }) => {
  const { zone } = usePreferences();
  const time = Date.parse(at);
  if (Number.isNaN(time)) return <>{at}</>;
  return (
    <time dateTime={at} title={instant(time, "utc")}>
      {secondClock(time, zone)}
    </time>
  );
};

/** "14:05:09.123", with day and zone as a tooltip. */
export const ExactInstant = ({ at }: { at: string }) => {
  const { zone } = usePreferences();
  const time = Date.parse(at);
  if (Number.isNaN(time)) return <>{at}</>;
  return (
    <time dateTime={at} title={instant(time, "utc")}>
      {preciseClock(time, zone)}
    </time>
  );
};
