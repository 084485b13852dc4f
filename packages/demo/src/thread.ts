/** The chat's own nouns, and what its scripted assistant says. */

export interface Message {
  from: "you" | "assistant";
  text: string;
}

export interface Thread {
  id: string;
  title: string;
  messages: Message[];
}

export const REPLIES = [
  "Noted. Look beside the chat: your text was masked before it was stored, and went to no vendor.",
  "Got it. The event’s name and id went to Statsig and the data layer; the text did not.",
  "Thanks. Try a card number such as 4111 1111 1111 1111 and see what is stored.",
];

export const SAMPLE = "Reach me at ada@example.com, SSN 078-05-1120, card 4111 1111 1111 1111 🎉";

export const newThread = (number: number): Thread => ({ id: `thread-${crypto.randomUUID().slice(0, 8)}`, title: `Thread ${number}`, messages: [] });
