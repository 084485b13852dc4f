/** Why an event was not accepted, and what to do about it, in words. Pure. The server's list of codes is closed. */

const REASONS = new Map<string, string>([
  ["already_accepted", "This id had been accepted before. Nothing to do: a retry is meant to end like this."],
  ["found_in_store", "The table held this id already. Nothing to do: a late retry is meant to end like this."],
  ["rate_limited", "One person sent more than the server lets in at once. The SDK keeps the event and sends it again."],
  ["killed", "Tracking is switched off for this environment. Its SDKs stop sending by themselves."],
  ["not_in_rollout", "Its identity is not in the share that the rollout lets in. Nothing to do; twintrack rollout show tells the share."],
  ["sampled", "Only a part of this event is kept, and this identity is not in it. twintrack rollout show tells the rate."],
  ["consent", "It did not say that consent was granted. The page should not send it."],
  ["consent_withdrawn", "Its person said no to analytics since. The page should not send it; a new consent lets later events in."],
  ["erased", "Its person was erased since it happened. Nothing to do: what came before the erasure is never taken again."],
  ["expired", "It was older than this project keeps such events. twintrack retention show tells for how long."],
  ["malformed", "It was not JSON. Send events as JSON.stringify makes them."],
  ["wrong_type", "A field had a type that the event schema does not allow, such as a number where text belongs."],
  ["missing_field", "A required field was missing or empty: event_id, event_name, or a key inside event_metadata."],
  ["too_long", "A text was longer than its field may be, or the whole event larger than its limit. Shorten it."],
  ["too_deep", "event_metadata was nested too deep. Flatten it before sending."],
  ["too_many_keys", "event_metadata had too many keys. Send fewer."],
  ["colliding_keys", "event_metadata named one path twice, as in a.b beside a: { b }. Rename one of them."],
  ["number_out_of_range", "A number was outside of what its field can hold. Send very large whole numbers as text."],
  ["too_old", "Its time lies too far back for live events. Bring older ones in with twintrack import."],
  ["in_the_future", "Its time lies too far ahead. Check the device's clock."],
  ["unverified_user", "This project demands verified users, and no valid token named this one. Send a fresh token."],
]);

/** What a reason means; null for a code this page does not know. */
export const explain = (reason: string): string | null => REASONS.get(reason) ?? null;
