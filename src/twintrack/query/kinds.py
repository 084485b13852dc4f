"""Every kind of question by the name it is asked under."""

from twintrack.query.compile.funnel import Funnel
from twintrack.query.compile.trends import Trends
from twintrack.query.question import Question

KINDS: dict[str, type[Question]] = {
    "trends": Trends,
    "funnel": Funnel,
}
