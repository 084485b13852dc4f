"""Every kind of question by the name it is asked under."""

from twintrack.query.compile.funnel import Funnel
from twintrack.query.compile.lifecycle import Lifecycle, Stickiness
from twintrack.query.compile.paths import Paths
from twintrack.query.compile.retention import Retention
from twintrack.query.compile.trends import Trends
from twintrack.query.question import Question

KINDS: dict[str, type[Question]] = {
    "trends": Trends,
    "funnel": Funnel,
    "retention": Retention,
    "lifecycle": Lifecycle,
    "stickiness": Stickiness,
    "paths": Paths,
}
