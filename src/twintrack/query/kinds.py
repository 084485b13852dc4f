"""Every kind of question by the name it is asked under."""

from twintrack.query.compile.actors import Actors
from twintrack.query.compile.events import Events
from twintrack.query.compile.funnel import Funnel
from twintrack.query.compile.properties import Properties
from twintrack.query.compile.sessions import Sessions
from twintrack.query.compile.trends import Trends
from twintrack.query.compile.users import Users
from twintrack.query.question import Question

KINDS: dict[str, type[Question]] = {
    "trends": Trends,
    "sessions": Sessions,
    "users": Users,
    "events": Events,
    "properties": Properties,
    "actors": Actors,
    "funnel": Funnel,
}
