"""What a topic cannot do: messages that were appended stay until the topic's own retention takes them."""


class KeptByTopic:
    """The part of a spool that takes rows out again, for one that cannot."""

    removals = None  # nothing is removed by a policy yet
    erasing = False  # nobody is erased from a topic

    def removing(self) -> dict[int, int]:
        return {}
