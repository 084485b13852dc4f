"""Every kind of question by the name it is asked under."""

from twintrack.query.compile.actors import Actors
from twintrack.query.compile.cohorts import Cohorts
from twintrack.query.compile.events import Events
from twintrack.query.compile.funnel import Funnel
from twintrack.query.compile.lifecycle import Lifecycle, Stickiness
from twintrack.query.compile.paths import Paths
from twintrack.query.compile.properties import Properties
from twintrack.query.compile.retention import Retention
from twintrack.query.compile.sessions import Sessions
from twintrack.query.compile.threads import Threads
from twintrack.query.compile.trends import Trends
from twintrack.query.compile.users import Users
from twintrack.query.question import Question

KINDS: dict[str, type[Question]] = {
    "trends": Trends,
    "funnel": Funnel,
    "retention": Retention,
    "lifecycle": Lifecycle,
    "stickiness": Stickiness,
    "paths": Paths,
    "threads": Threads,
    "cohorts": Cohorts,
    "sessions": Sessions,
    "users": Users,
    "events": Events,
    "properties": Properties,
    "actors": Actors,
}
