import {
  Bot,
  CircleCheck,
  CircleDashed,
  CircleHelp,
  CircleX,
  Copy,
  EyeOff,
  Inbox,
  type LucideIcon,
  Server,
  ShieldCheck,
  TriangleAlert,
  UserRound,
} from "lucide-react";
import type { ReactNode } from "react";
import type { Fate, Identity, Masked } from "../api";
import { classes } from "../classes";
import styles from "./Chip.module.css";

export type Tone = "plain" | "good" | "warn" | "bad" | "masked" | "accent";

type ChipProps = { tone?: Tone; icon?: LucideIcon; title?: string | undefined; large?: boolean; children: ReactNode };

/** A small word with a colour. The word carries the meaning; the colour only helps. */
export const Chip = ({ tone = "plain", icon: Icon, title, large = false, children }: ChipProps) => (
  <span className={classes(styles.chip, styles[tone], large && styles.large)} title={title}>
    {Icon && <Icon size={large ? 15 : 12} strokeWidth={2.25} aria-hidden />}
    {children}
  </span>
);

const IDENTITIES: Readonly<Record<Identity, { tone: Tone; icon: LucideIcon; title: string }>> = {
  verified: { tone: "good", icon: ShieldCheck, title: "A token proved this user." },
  server: { tone: "accent", icon: Server, title: "Your own server named this user." },
  claimed: { tone: "warn", icon: CircleHelp, title: "The page named this user; nothing proved it." },
  anonymous: { tone: "plain", icon: UserRound, title: "No user was named." },
};

export const IdentityChip = ({ identity }: { identity: Identity }) => {
  const known = IDENTITIES[identity];
  return known ? (
    <Chip tone={known.tone} icon={known.icon} title={known.title}>
      {identity}
    </Chip>
  ) : (
    <Chip>{identity}</Chip>
  );
};

const RULES_SHOWN = 2;

export const MaskedChip = ({ masked }: { masked: readonly Masked[] }) => {
  if (masked.length === 0) return null;
  const rules = [...new Set(masked.map(({ rule }) => rule))];
  const more = rules.length - RULES_SHOWN;
  return (
    <Chip tone="masked" icon={EyeOff} title={masked.map(({ field, rule }) => `${field}: ${rule}`).join("\n")}>
      <span className="visually-hidden">masked: </span>
      {rules.slice(0, RULES_SHOWN).join(", ")}
      {more > 0 && ` +${more}`}
    </Chip>
  );
};

export const BotChip = () => (
  <Chip icon={Bot} title="Its browser is driven by a program, or its user agent is a robot's.">
    bot
  </Chip>
);

const FATES: Readonly<Record<Fate, { tone: Tone; icon: LucideIcon; word: string }>> = {
  stored: { tone: "good", icon: CircleCheck, word: "stored" },
  in_spool: { tone: "accent", icon: Inbox, word: "in spool" },
  quarantined: { tone: "warn", icon: TriangleAlert, word: "quarantined" },
  gone: { tone: "plain", icon: CircleDashed, word: "gone" },
  refused: { tone: "bad", icon: CircleX, word: "rejected" },
  dropped: { tone: "warn", icon: CircleDashed, word: "dropped" },
  duplicate: { tone: "plain", icon: Copy, word: "duplicate" },
};

export const FateChip = ({ fate }: { fate: Fate }) => {
  const known = FATES[fate];
  return known ? (
    <Chip tone={known.tone} icon={known.icon} large>
      {known.word}
    </Chip>
  ) : (
    <Chip large>{fate}</Chip>
  );
};
