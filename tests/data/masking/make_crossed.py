"""Writes `crossed.jsonl`: sentences of ten languages crossed with forms of values, and with what only looks like them.

`python tests/data/masking/make_crossed.py`. Each kind has at least 150 lines with a value and 150 without, from one seed.
A form is a function; what it gives stands in a sentence for `{}`, and is all that must not survive.
"""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import make
from make import b64url, card, digits, hexes, iban, jwt, no_card, some, ssn, strong, uuid, wide

OUT = Path(__file__).parent / "crossed.jsonl"
EACH = 156
_draw = random.Random(20261126)
_ALNUM, _LOWER = make._ALNUM, make._LOWER
_HEAD = "-----BEGIN {}PRIVATE KEY-----"
Form = Callable[[], str]


def cut(text: str, by: str) -> str:
    """Cut in two about the middle, between letters or digits."""
    at = len(text) // 2
    while not (text[at - 1].isalnum() and text[at].isalnum()):
        at += 1
    return text[:at] + by + text[at:]


def fours(text: str, by: str = " ") -> str:
    return by.join(text[i : i + 4] for i in range(0, len(text), 4))


def ip4(first: int | None = None) -> str:
    return ".".join(
        [
            str(first or _draw.choice([23, 45, 62, 78, 91, 103, 141, 185, 198, 212])),
            *(str(_draw.randrange(1, 255)) for _ in "123"),
        ]
    )


def version(first: int | None = None) -> str:
    return ".".join([str(first or _draw.randrange(1, 15)), *(str(_draw.randrange(0, 30)) for _ in "123")])


def ip6() -> str:
    return "2001:db8:" + ":".join(f"{_draw.randrange(1, 65536):x}" for _ in range(6))


def body(lines: int = 3, by: str = "\n") -> str:
    return by.join(
        ["MII" + some(_ALNUM + "+/", 61), *(some(_ALNUM + "+/", 64) for _ in range(lines - 2)), some(_ALNUM, 40) + "=="]
    )


def user() -> str:
    return _draw.choice(
        ["lena.vogt", "p.santos", "yuki_t", "amelie-b", "o.kowalska", "r.bianchi", "ivan.petrov", "sk.rao"]
    ) + str(_draw.randrange(2, 98))


def host() -> str:
    return (
        _draw.choice(["mailbox", "werkstatt", "correo", "poczta", "lavori", "kontor"])
        + str(_draw.randrange(9))
        + _draw.choice([".example", ".example.com", ".example.org", ".example.net"])
    )


def mail() -> str:
    return f"{user()}@{host()}"


def cards() -> str:
    return card(_draw.choice(["4929", "5354", "2223", "6011", "3569", "4026", "6771"]), 16)


def accounts() -> str:
    return iban(
        *_draw.choice(
            [
                ("DE", "n" * 18),
                ("PL", "n" * 24),
                ("ES", "n" * 20),
                ("AT", "n" * 16),
                ("NL", "aaaan" + "n" * 9),
                ("PT", "n" * 21),
            ]
        )
    )


def keys() -> str:
    return _draw.choice(
        [
            lambda: "AKIA" + some(make._UPPER, 16),
            lambda: "ghp_" + some(_ALNUM, 36),
            lambda: "glpat-" + some(_ALNUM, 20),
            lambda: "sk_live_" + some(_ALNUM, 24),
            lambda: "xoxb-" + digits(11) + "-" + digits(12) + "-" + some(_ALNUM, 24),
            lambda: "AIza" + some(_ALNUM + "_-", 35),
            lambda: "npm_" + some(_ALNUM, 36),
            lambda: "hf_" + some(_ALNUM, 34),
            lambda: "SG." + some(_ALNUM, 22) + "." + some(_ALNUM, 43),
            lambda: "sk-proj-" + some(_ALNUM, 48),
            lambda: "dop_v1_" + hexes(64),
            lambda: "pypi-AgEIcHlwaS5vcmc" + some(_ALNUM, 60),
        ]
    )()


# Per kind: sentences with `{}` for a value, forms of the value.
FOUND: dict[str, tuple[list[tuple[str, str]], list[Form]]] = {
    "email": (
        [
            ("en", "can u resend it 2 {} pls"),
            ("en", "cc={}&bcc=none"),
            ("en", "Reply-To: <{}>"),
            ("en", "signed up as {}, never got the mail"),
            ("de", "schicken Sie das bitte an {}!"),
            ("de", "Absender ({}) unbekannt"),
            ("fr", "mon adresse est {} merci"),
            ("fr", "contact : {}."),
            ("es", "mándamelo a {} porfa"),
            ("es", "usuario «{}» no encontrado"),
            ("pt", "meu e-mail mudou para {}"),
            ("it", "scrivimi su {}, grazie"),
            ("pl", "mój adres to {}"),
            ("ru", "почта: {}, жду ответа"),
            ("ja", "連絡先は{}です"),
            ("zh", "请发到{}，谢谢"),
            ("hi", "मेरा ईमेल {} है"),
            ("ar", "بريدي {} من فضلك"),
        ],
        [
            mail,
            lambda: mail().upper(),
            lambda: mail().replace("@", "%40"),
            lambda: mail().replace("@", " (at) ").replace(".example", " (dot) example"),
            lambda: mail().replace("@", "[at]"),
            lambda: wide(mail()),
            lambda: mail().replace("@", "\u200b@"),
            lambda: mail().replace(".e", ".\u00ade"),
            lambda: mail().replace("@", "@\n"),
            lambda: mail().replace("@", "＠"),
            lambda: user() + "+news@" + host(),
            lambda: mail().replace("@", "&#64;"),
        ],
    ),
    "phone": (
        [
            ("en", "ring me on {} after six"),
            ("en", "my cell is {}"),
            ("en", "Tel. {} (office)"),
            ("en", "WhatsApp: {}"),
            ("de", "Sie erreichen mich unter {}"),
            ("de", "Handynummer {}, bitte zurückrufen"),
            ("fr", "appelez-moi au {}"),
            ("fr", "mon portable : {}"),
            ("es", "mi móvil es {}"),
            ("es", "llámame al {}"),
            ("pt", "meu telefone: {}"),
            ("it", "chiamami al {}"),
            ("pl", "zadzwoń pod {}"),
            ("ru", "мой телефон {}"),
            ("ja", "電話番号は{}です"),
            ("zh", "手机号{}，请回电"),
            ("hi", "मेरा फ़ोन नंबर {} है"),
            ("ar", "رقم هاتفي {}"),
        ],
        [
            lambda: "+49 151 " + digits(3) + " " + digits(5),
            lambda: "+1-415-555-01" + digits(2),
            lambda: "+33 6 12 " + digits(2) + " " + digits(2) + " " + digits(2),
            lambda: "+34" + "6" + digits(8),
            lambda: "0048 512 " + digits(3) + " " + digits(3),
            lambda: "+7 (912) " + digits(3) + "-" + digits(2) + "-" + digits(2),
            lambda: "+81-90-" + digits(4) + "-" + digits(4),
            lambda: wide("+86 138 " + digits(4) + " " + digits(4)),
            lambda: "+91\u00a098\u00a0" + digits(4) + "\u00a0" + digits(4),
            lambda: "+44\n7700 900" + digits(3),
            lambda: "+39\u200b 347\u200b " + digits(7),
            lambda: "(+55) 11 9" + digits(4) + "-" + digits(4),
        ],
    ),
    "ssn": (
        [
            ("en", "my social is {} ok?"),
            ("en", "SSN: {}"),
            ("en", "social security number = {}."),
            ("en", "ITIN {} on file"),
            ("en", '{{"ssn":"{}"}}'),
            ("de", "US-Sozialversicherungsnummer (SSN) {}"),
            ("fr", "mon numéro SSN américain : {}"),
            ("es", "mi número de seguro social es {}"),
            ("pt", "meu SSN é {}"),
            ("it", "il mio SSN è {}"),
            ("pl", "mój numer SSN: {}"),
            ("ru", "мой SSN {}"),
            ("ja", "SSN（社会保障番号）は{}"),
            ("zh", "我的社会安全号码（SSN）是{}"),
            ("hi", "मेरा SSN {} है"),
            ("ar", "رقم SSN هو {}"),
            ("en", "tax id (SSN) {}, born 1980"),
            ("en", "ssn#{} last name Doe"),
        ],
        [
            ssn,
            lambda: ssn().replace("-", " "),
            lambda: ssn().replace("-", ""),
            lambda: wide(ssn()),
            lambda: ssn().replace("-", "\u00a0"),
            lambda: ssn().replace("-", "–"),
            lambda: ssn().replace("-", "\u200b-\u200b"),
            lambda: ssn().replace("-", "."),
            make.itin,
            lambda: ssn().replace("-", "\n", 1),
        ],
    ),
    "card": (
        [
            ("en", "charge my card {} pls"),
            ("en", "cc number: {}"),
            ("en", "declined: {} exp 09/28"),
            ("en", '{{"pan":"{}"}}'),
            ("de", "meine Kreditkarte {} wird abgelehnt"),
            ("de", "Kartennummer: {}"),
            ("fr", "ma carte bancaire {} ne passe pas"),
            ("fr", "n° de carte {}"),
            ("es", "mi tarjeta {} no funciona"),
            ("pt", "cartão de crédito {} recusado"),
            ("it", "la mia carta {} non va"),
            ("pl", "karta {} odrzucona"),
            ("ru", "карта {} не проходит"),
            ("ja", "カード番号は{}です"),
            ("zh", "信用卡号{}无法付款"),
            ("hi", "मेरा कार्ड {} नहीं चल रहा"),
            ("ar", "بطاقتي {} مرفوضة"),
            ("en", "{} <- this one"),
        ],
        [
            cards,
            lambda: fours(cards()),
            lambda: fours(cards(), "-"),
            lambda: wide(fours(cards())),
            lambda: fours(cards(), "\u00a0"),
            lambda: fours(cards(), "\u200b"),
            lambda: fours(cards(), "\n"),
            lambda: fours(cards(), "."),
            lambda: make.grouped(card("3782", 15), (4, 6, 5), " "),
            lambda: make.grouped(card("3796", 15), (4, 6, 5), "-"),
            lambda: fours(cards(), "  "),
        ],
    ),
    "iban": (
        [
            ("en", "refund to {} please"),
            ("en", "IBAN={}"),
            ("en", '{{"iban":"{}"}}'),
            ("en", "account {} is closed"),
            ("de", "bitte auf {} überweisen"),
            ("de", "IBAN lautet {}."),
            ("fr", "mon IBAN : {}"),
            ("fr", "virement vers {}"),
            ("es", "mi cuenta es {}"),
            ("pt", "o meu IBAN é {}"),
            ("it", "bonifico su {}"),
            ("pl", "proszę przelać na {}"),
            ("ru", "счёт {} указан неверно"),
            ("ja", "口座は{}です"),
            ("zh", "请退到{}"),
            ("hi", "मेरा खाता {} है"),
            ("ar", "حسابي {}"),
        ],
        [
            accounts,
            lambda: fours(accounts()),
            lambda: accounts().lower(),
            lambda: fours(accounts(), "-"),
            lambda: wide(accounts()),
            lambda: fours(accounts(), "\u00a0"),
            lambda: fours(accounts(), "\n"),
            lambda: cut(accounts(), "\u200b"),
            lambda: cut(accounts(), "\u00ad"),
            lambda: fours(accounts(), "."),
        ],
    ),
    "ip": (
        [
            ("en", "login from {} blocked"),
            ("en", "app 4.2 can't reach {} since yesterday"),
            ("en", "after the update the server at {} is dead"),
            ("en", "ping {} works"),
            ("en", "X-Real-IP: {}"),
            ("de", "Version 7 der App erreicht den Server {} nicht"),
            ("de", "Zugriff von {} abgelehnt"),
            ("fr", "connexion depuis {} refusée"),
            ("fr", "le serveur {} ne répond plus"),
            ("es", "la versión 3 no conecta con {}"),
            ("es", "mi IP es {}"),
            ("pt", "o servidor {} caiu"),
            ("it", "accesso da {} negato"),
            ("pl", "serwer {} nie odpowiada"),
            ("ru", "после обновления хост {} недоступен"),
            ("ja", "{}からのアクセスを拒否"),
            ("zh", "服务器{}连不上"),
            ("hi", "मेरा IP {} है"),
            ("ar", "عنوان IP هو {}"),
        ],
        [
            ip4,
            lambda: ip4(10),
            lambda: ip4(5),
            lambda: "192.168." + str(_draw.randrange(256)) + "." + str(_draw.randrange(1, 255)),
            lambda: "172.20." + str(_draw.randrange(256)) + "." + str(_draw.randrange(1, 255)),
            ip6,
            lambda: wide(ip4()),
            lambda: ip4().replace(".", "[.]"),
            lambda: cut(ip4(198), "\u200b"),
            lambda: ip4(8).replace(".", "\u200b."),
        ],
    ),
    "jwt": (
        [
            ("en", "it sends {} and fails"),
            ("en", "Cookie: t={}; Path=/"),
            ("en", "id_token={}&state=1"),
            ("en", '{{"jwt":"{}"}}'),
            ("de", "im Header steht {}"),
            ("de", "Token:\n{}"),
            ("fr", "le jeton {} est refusé"),
            ("es", "mi token es {} y falla"),
            ("pt", "recebi {} na resposta"),
            ("it", "il token è {}"),
            ("pl", "token {} wygasł"),
            ("ru", "токен {} не принимают"),
            ("ja", "トークンは{}です"),
            ("zh", "令牌{}已失效"),
            ("hi", "टोकन {} है"),
            ("ar", "الرمز {} مرفوض"),
        ],
        [
            jwt,
            lambda: jwt().replace(".", ".\n", 1),
            lambda: cut(jwt(), "\n"),
            lambda: cut(jwt(), "\u200b"),
            lambda: cut(jwt(), "\u00ad"),
            lambda: jwt().replace(".", "\u200b.", 1),
            lambda: jwt().replace(".", "\n.", 1),
            lambda: (
                b64url('{"alg":"RS256","kid":"k1"}')
                + "."
                + b64url('{"sub":"u' + digits(4) + '","exp":1767225600}')
                + "."
                + some(_ALNUM + "_-", 342)
            ),
            lambda: b64url('{"alg":"none"}') + "." + b64url('{"sub":"u' + digits(4) + '"}') + ".",
            lambda: cut(jwt(), "\r\n"),
        ],
    ),
    "pem": (
        [
            ("en", "here you go:\n{}"),
            ("en", '{{"key":"{}"}}'),
            ("en", "is this ok? {} thx"),
            ("de", "der Schlüssel:\n{}"),
            ("de", "steht so in der Datei: {}"),
            ("fr", "voici la clé\n{}"),
            ("es", "mi clave:\n{}"),
            ("pt", "a chave é\n{}"),
            ("it", "la chiave: {}"),
            ("pl", "klucz:\n{}"),
            ("ru", "ключ:\n{}"),
            ("ja", "秘密鍵:\n{}"),
            ("zh", "私钥：\n{}"),
            ("hi", "कुंजी:\n{}"),
            ("ar", "المفتاح:\n{}"),
            ("en", "tls.key: |\n  {}"),
        ],
        [
            lambda: _HEAD.format("RSA ") + "\n" + body() + "\n-----END RSA PRIVATE KEY-----",
            lambda: _HEAD.format("") + "\\n" + body(3, "\\n") + "\\n-----END PRIVATE KEY-----",
            lambda: _HEAD.format("EC ") + "\r\n" + body(2, "\r\n") + "\r\n-----END EC PRIVATE KEY-----",
            lambda: (
                _HEAD.format("RSA ")
                + "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,"
                + hexes(32).upper()
                + "\n\n"
                + body()
                + "\n-----END RSA PRIVATE KEY-----"
            ),
            lambda: (
                _HEAD.format("OPENSSH ")
                + "\n"
                + "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU"
                + some(_ALNUM, 33)
                + "\n"
                + some(_ALNUM, 64)
            ),
            lambda: _HEAD.format("") + " " + body(2, " ") + " -----END PRIVATE KEY-----",
            lambda: _HEAD.format("") + "\n> " + body(3, "\n> ") + "\n> -----END PRIVATE KEY-----",
            lambda: _HEAD.format("") + "MII" + some(_ALNUM, 80),
            lambda: _HEAD.format("ENCRYPTED ") + "\n" + body() + "\n-----END ENCRYPTED PRIVATE KEY-----",
            lambda: _HEAD.format("").replace("-", "－") + "\n" + body(2) + "\n-----END PRIVATE KEY-----",
        ],
    ),
    "credential": (
        [
            ("en", "curl -H 'Authorization: Bearer {}' api"),
            ("en", "GET /v1/me?access_token={} 401"),
            ("en", "postgres://svc:{}@db.internal:5432/app"),
            ("en", "https://ada:{}@files.example.com/x"),
            ("en", "redis://:{}@cache:6379/0"),
            ("de", "Aufruf mit ?api_key={} schlägt fehl"),
            ("de", "mongodb+srv://dienst:{}@cluster0.example.net geht nicht"),
            ("fr", "l'en-tête Authorization: Bearer {} est refusé"),
            ("es", "la url https://x.example/cb?client_secret={} falla"),
            ("pt", "amqp://fila:{}@mq:5672 não conecta"),
            ("it", "chiamata con &token={} rifiutata"),
            ("pl", "mysql://app:{}@10.0.0.5/baza nie działa"),
            ("ru", "запрос с ?secret={} отклонён"),
            ("ja", "Authorization: Bearer {} で401になる"),
            ("zh", "连接 ftp://ops:{}@files.example.com 失败"),
            ("hi", "Authorization: Bearer {} काम नहीं करता"),
            ("ar", "الرابط https://x.example/?auth_token={} لا يعمل"),
        ],
        [
            lambda: some(_ALNUM, 24),
            lambda: some(_ALNUM, 40),
            lambda: hexes(32),
            lambda: some(_LOWER, 20),
            lambda: some(_ALNUM, 10) + "-" + some(_ALNUM, 10),
            lambda: wide(some(_ALNUM, 22)),
            lambda: cut(some(_ALNUM, 26), "\u200b"),
            lambda: cut(some(_ALNUM, 26), "\u00ad"),
            lambda: "Zt7" + some(_ALNUM, 15) + "~" + some(_ALNUM, 3),
            lambda: some(_ALNUM, 30) + "_" + some(_ALNUM, 6),
        ],
    ),
    "key": (
        [
            ("en", "is {} still valid?"),
            ("en", "env: K={}"),
            ("en", '"{{\\"k\\":\\"{}\\"}}"'),
            ("en", "I pasted {} into the chat, sorry"),
            ("de", "bei {} kommt ein 401"),
            ("de", "habe {} eingetragen"),
            ("fr", "j'ai mis {} dans la conf"),
            ("fr", "« {} » ne marche pas"),
            ("es", "puse {} y nada"),
            ("pt", "usei {} no painel"),
            ("it", "ho messo {} nel file"),
            ("pl", "wkleiłem {} do pliku"),
            ("ru", "вставил {} в конфиг"),
            ("ja", "{}を設定しました"),
            ("zh", "我填了{}还是不行"),
            ("hi", "{} डाला है"),
            ("ar", "وضعت {} في الملف"),
        ],
        [
            keys,
            lambda: cut(keys(), "\n"),
            lambda: cut(keys(), "\u200b"),
            lambda: cut(keys(), "\u00ad"),
            lambda: wide(keys()),
            lambda: cut(keys(), "\u2060"),
            lambda: cut(keys(), "\r\n"),
            lambda: keys().replace("-", "%2D").replace("_", "%5F"),
            lambda: cut(keys(), "\n    "),
            lambda: cut(keys(), "\u00a0"),
        ],
    ),
    "secret": (
        [
            ("en", 'app.config["SECRET_KEY"] = "{}"'),
            ("en", '{{"cfg":"{{\\"smtp_pwd\\":\\"{}\\"}}"}}'),
            ("en", "dbPwd: '{}'"),
            ("en", "my password is {} but it says wrong"),
            ("en", "<password>{}</password>"),
            ("en", "os.environ['API_TOKEN'] = '{}'"),
            ("en", '<input type="password" value="{}">'),
            ("de", "das Passwort lautet {} und geht nicht"),
            ("de", "Kennwort: {}"),
            ("fr", "mot de passe : {}"),
            ("fr", "mon mdp c'est {}"),
            ("es", "la contraseña es {}"),
            ("pt", "minha senha é {}"),
            ("it", "la password è {}"),
            ("pl", "hasło: {}"),
            ("ru", "пароль: {}"),
            ("ja", "パスワードは{}です"),
            ("zh", "密码是{}，登不上"),
            ("hi", "पासवर्ड {} है"),
            ("ar", "كلمة المرور: {}"),
            ("en", "user_pass={}"),
            ("en", "secret: !!str {}"),
        ],
        [
            lambda: strong(16),
            lambda: some(_ALNUM, 32),
            lambda: some(_ALNUM, 8) + "." + some(_LOWER, 9) + "8",
            lambda: "Tundra~Oboe" + digits(2),
            lambda: hexes(40),
            lambda: "Kaffee" + digits(3) + "!xy9Q",
            lambda: wide("Qx7" + some(_ALNUM, 13)),
            lambda: cut("w8" + some(_ALNUM, 20), "\u200b"),
            lambda: "r3d-" + some(_LOWER, 6) + "-" + some(_LOWER, 12) + "7",
        ],
    ),
}

_V = version


def _two() -> tuple[str, str]:
    first = _draw.randrange(2, 12)
    return version(first), version(first)


# Per kind: sentences of what only looks like it, forms. `{}` and `{two}` are filled alike.
CLEAN: dict[str, tuple[list[tuple[str, str]], list[Form]]] = {
    "email": (
        [
            ("en", "see {} for details"),
            ("en", "installed {} and it broke"),
            ("en", "why does {} fail"),
            ("de", "mit {} geht es nicht"),
            ("de", "{} wurde nicht gefunden"),
            ("fr", "j'utilise {} ici"),
            ("es", "falla con {}"),
            ("pt", "erro em {}"),
            ("it", "uso {} nel progetto"),
            ("pl", "problem z {}"),
            ("ru", "ошибка в {}"),
            ("ja", "{}でエラー"),
            ("zh", "{} 报错"),
            ("hi", "{} में त्रुटि"),
            ("ar", "خطأ في {}"),
        ],
        [
            lambda: f"lodash@4.17.{_draw.randrange(90)}",
            lambda: f"@scope/pkg@^{_draw.randrange(9)}.2.0",
            lambda: f"icon@{_draw.randrange(2, 4)}x.png",
            lambda: f"git@host{_draw.randrange(90)}.example.com:team/repo.git",
            lambda: f"@user{digits(4)}",
            lambda: f"actions/checkout@v{_draw.randrange(1, 9)}",
            lambda: "repo@sha256:" + hexes(64),
            lambda: f"@media (max-width: {_draw.randrange(300, 900)}px)",
            lambda: f"getty@tty{_draw.randrange(9)}.service",
            lambda: f"{_draw.randrange(2, 90)} pcs @ 3.50 EUR",
            lambda: f"root@web{digits(2)}",
        ],
    ),
    "phone": (
        [
            ("en", "order {} is late"),
            ("en", "ticket {} still open"),
            ("en", "SKU {} out of stock"),
            ("en", "row {} of the table"),
            ("de", "Bestellnummer {}"),
            ("de", "Rechnung {} fehlt"),
            ("fr", "commande {} introuvable"),
            ("es", "pedido {} sin llegar"),
            ("pt", "nota fiscal {}"),
            ("it", "ordine {} perso"),
            ("pl", "zamówienie {}"),
            ("ru", "заказ {} не пришёл"),
            ("ja", "注文番号{}"),
            ("zh", "订单{}未到"),
            ("hi", "ऑर्डर {} नहीं आया"),
            ("ar", "الطلب {} لم يصل"),
        ],
        [
            lambda: digits(10).replace("0", "3"),
            lambda: "4" + digits(3) + "-" + digits(4),
            lambda: "2026-11-" + str(_draw.randrange(10, 29)) + " 08:15:30",
            lambda: "A" + digits(7),
            lambda: digits(3) + "-" + digits(7) + "-" + digits(7),
            lambda: "17" + digits(8),
            lambda: f"{_draw.randrange(10, 99)}.{digits(6)}, {_draw.randrange(10, 99)}.{digits(6)}",
            lambda: f"{_draw.randrange(1, 9)},{digits(3)},{digits(3)}.00",
            lambda: "978-3-16-" + digits(6) + "-0",
            lambda: "10-" + digits(5) + "-" + digits(2),
        ],
    ),
    "ssn": (
        [
            ("en", "part {} is missing"),
            ("en", "ref {} closed"),
            ("en", "model {}"),
            ("de", "Artikel {} fehlt"),
            ("de", "Teilenummer {}"),
            ("fr", "référence {}"),
            ("es", "modelo {}"),
            ("pt", "peça {}"),
            ("it", "articolo {}"),
            ("pl", "model {}"),
            ("ru", "артикул {}"),
            ("ja", "型番{}"),
            ("zh", "型号{}"),
            ("hi", "मॉडल {}"),
            ("ar", "الموديل {}"),
        ],
        [
            lambda: "000-" + digits(2) + "-" + digits(4),
            lambda: "666-" + digits(2) + "-" + digits(4),
            lambda: "P" + digits(3) + "-" + digits(2) + "-" + digits(4),
            lambda: digits(3) + "-00-" + digits(4),
            lambda: digits(4) + "-" + digits(2) + "-" + digits(4),
            lambda: digits(9),
            lambda: digits(3) + "-" + digits(2) + "-" + digits(5),
            lambda: "2026-" + str(_draw.randrange(10, 12)) + "-" + str(_draw.randrange(10, 28)),
            lambda: digits(3) + "/" + digits(2) + "/" + digits(4) + "A",
            lambda: "1." + digits(3) + "-" + digits(2) + "-" + digits(4),
        ],
    ),
    "card": (
        [
            ("en", "tracking {}"),
            ("en", "order no {}"),
            ("en", "test id {} passed"),
            ("en", "the card says {} but that is no card"),
            ("de", "Sendung {}"),
            ("de", "Kundennummer {}"),
            ("fr", "colis {}"),
            ("es", "seguimiento {}"),
            ("pt", "rastreio {}"),
            ("it", "spedizione {}"),
            ("pl", "przesyłka {}"),
            ("ru", "посылка {}"),
            ("ja", "追跡番号{}"),
            ("zh", "运单号{}"),
            ("hi", "ट्रैकिंग {}"),
            ("ar", "شحنة {}"),
        ],
        [
            lambda: no_card("4929", 16),
            lambda: fours(no_card("5354", 16)),
            lambda: fours(no_card("4026", 16), "-"),
            lambda: "1" + digits(12) + "123",
            lambda: "0" * 16,
            lambda: uuid(),
            lambda: "0034" + digits(16),
            lambda: no_card("3782", 15),
            lambda: "1767" + digits(9),
            lambda: hexes(40),
        ],
    ),
    "iban": (
        [
            ("en", "licence {}"),
            ("en", "code {} is printed on it"),
            ("de", "Vorgang {}"),
            ("de", "Aktenzeichen {}"),
            ("fr", "dossier {}"),
            ("es", "expediente {}"),
            ("pt", "processo {}"),
            ("it", "pratica {}"),
            ("pl", "sprawa {}"),
            ("ru", "дело {}"),
            ("ja", "案件{}"),
            ("zh", "案件{}"),
            ("hi", "मामला {}"),
            ("ar", "ملف {}"),
        ],
        [
            lambda: "DE00" + digits(18),
            lambda: "DE" + digits(9),
            lambda: "XX" + digits(20),
            lambda: "GB" + digits(9),
            lambda: "FR" + digits(11),
            lambda: "PL" + digits(10),
            lambda: fours("DE00" + digits(18)),
            lambda: "ES-" + digits(8) + "-K",
            lambda: "ATU" + digits(8),
            lambda: "IT" + digits(11),
            lambda: "DE" + digits(2) + "-" + digits(4),
        ],
    ),
    "ip": (
        [
            ("en", "app version {} crashes, {two} was fine"),
            ("en", "roll back to {}, the {two} release loops"),
            ("en", "clause {} and {two} of the contract"),
            ("en", "which firmware: {} or {two}?"),
            ("de", "Firmware {} oder doch {two}?"),
            ("de", "siehe Abschnitt {} und {two}"),
            ("de", "Kapitel {} bis {two} lesen"),
            ("fr", "la version {} plante, {two} marchait"),
            ("fr", "voir chapitre {}, puis {two}"),
            ("es", "versión {} falla, la {two} iba bien"),
            ("es", "según la sección {} y la {two}"),
            ("pt", "a versão {} trava, a {two} não"),
            ("pt", "seção {} do manual"),
            ("it", "versione {} instabile, {two} ok"),
            ("it", "vedi sezione {}"),
            ("pl", "wersja {} nie działa, {two} działała"),
            ("pl", "zgodnie z rozdziałem {}"),
            ("ru", "версия {} падает, {two} работала"),
            ("ru", "см. пункт {} договора"),
            ("ja", "バージョン{}で落ちる、{two}は正常"),
            ("ja", "第{}節を参照"),
            ("zh", "版本{}崩溃，{two}正常"),
            ("zh", "固件{}升级到{two}"),
            ("hi", "संस्करण {} में दिक्कत है"),
            ("ar", "الإصدار {} لا يعمل"),
        ],
        [
            version,
            lambda: version(10),
            lambda: version(2),
            lambda: "v" + version(),
            lambda: f"{_draw.randrange(1, 9)}.{_draw.randrange(9)}.{_draw.randrange(9)}.{_draw.randrange(300, 900)}",
            lambda: f"{_draw.randrange(1, 20)}.{_draw.randrange(9)}.{_draw.randrange(9)}.{_draw.randrange(9)}",
        ],
    ),
    "jwt": (
        [
            ("en", "the token expired, see {}"),
            ("en", "{} in the docs of tokens"),
            ("de", "Token abgelaufen ({})"),
            ("fr", "le jeton a expiré : {}"),
            ("es", "el token caducó: {}"),
            ("pt", "o token expirou: {}"),
            ("it", "token scaduto: {}"),
            ("pl", "token wygasł: {}"),
            ("ru", "токен истёк: {}"),
            ("ja", "トークン期限切れ: {}"),
            ("zh", "令牌过期：{}"),
            ("hi", "टोकन समाप्त: {}"),
            ("ar", "انتهى الرمز: {}"),
        ],
        [
            lambda: "eyes.only.report" + digits(2),
            lambda: "header.payload.signature",
            lambda: "eyJ...",
            lambda: f"jwt.verify(token, cb{digits(2)})",
            lambda: f"exp={digits(2)}m",
            lambda: f"HTTP 401 after {digits(2)} s",
            lambda: f"JwtTokenExpiredException line {digits(3)}",
            lambda: f"refreshToken() at auth.ts:{digits(3)}",
            lambda: "<jwt>",
            lambda: "Bearer <token>",
            lambda: "Bearer ${TOKEN}",
            lambda: "{{ access_token }}",
            lambda: f"token_type=bearer, ttl {digits(4)}",
        ],
    ),
    "pem": (
        [
            ("en", "{}"),
            ("en", "the tool says {}"),
            ("en", "docs: {}"),
            ("de", "Fehler: {}"),
            ("fr", "erreur : {}"),
            ("es", "error: {}"),
            ("pt", "erro: {}"),
            ("it", "errore: {}"),
            ("pl", "błąd: {}"),
            ("ru", "ошибка: {}"),
            ("ja", "エラー: {}"),
            ("zh", "错误：{}"),
            ("hi", "त्रुटि: {}"),
            ("ar", "خطأ: {}"),
        ],
        [
            lambda: 'expected "-----BEGIN PRIVATE KEY-----" in line ' + digits(2),
            lambda: (
                "the file must begin with -----BEGIN RSA PRIVATE KEY----- and end with -----END RSA PRIVATE KEY-----"
            ),
            lambda: "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
            lambda: "-----BEGIN PUBLIC KEY-----\n" + some(_ALNUM, 64) + "\n-----END PUBLIC KEY-----",
            lambda: "-----BEGIN CERTIFICATE-----\nMII" + some(_ALNUM, 61) + "\n-----END CERTIFICATE-----",
            lambda: "no PEM start line (BEGIN PRIVATE KEY) in key" + digits(2) + ".pem",
            lambda: "-----BEGIN PRIVATE KEY-----\n<your key here>\n-----END PRIVATE KEY-----",
            lambda: "`grep -c 'BEGIN PRIVATE KEY' *.pem` gives " + digits(2),
            lambda: "ssh-keygen made id_ed25519." + digits(2),
            lambda: "-----BEGIN EC PRIVATE KEY----- not found",
            lambda: '"-----BEGIN PRIVATE KEY-----\\n${KEY}\\n-----END PRIVATE KEY-----"',
        ],
    ),
    "credential": (
        [
            ("en", "set {} in the env"),
            ("en", "copy {} from the docs"),
            ("de", "trage {} ein"),
            ("fr", "mettez {} dans le fichier"),
            ("es", "usa {} en la configuración"),
            ("pt", "use {} no arquivo"),
            ("it", "usa {} nel file"),
            ("pl", "wpisz {} w pliku"),
            ("ru", "укажите {} в конфиге"),
            ("ja", "{}を設定"),
            ("zh", "配置 {}"),
            ("hi", "{} सेट करें"),
            ("ar", "اكتب {} في الملف"),
        ],
        [
            lambda: f"postgres://${{DB_USER}}:${{DB_PASSWORD}}@${{DB_HOST}}:{digits(4)}/app",
            lambda: "https://user:password@host/path",
            lambda: "mysql://<user>:<password>@localhost/db",
            lambda: f"?sort=key&page={digits(2)}",
            lambda: "Authorization: Bearer <your-token>",
            lambda: f"?code=SAVE{digits(2)}",
            lambda: "redis://cache:6379/" + digits(1),
            lambda: "curl -u $USER:$PASSWORD https://x.example",
            lambda: "Authorization: Basic <base64>",
            lambda: f"https://x.example:{digits(4)}/a@b",
            lambda: "token={{token}}",
            lambda: "api_key=YOUR_API_KEY",
            lambda: "password=%s",
            lambda: "secret=xxxxxxxx",
            lambda: "?token=...",
        ],
    ),
    "key": (
        [
            ("en", "saw {} in the log"),
            ("en", "deployed {} today"),
            ("en", "compare {} with main"),
            ("de", "Stand {} ist fehlerhaft"),
            ("de", "in {} behoben"),
            ("fr", "corrigé dans {}"),
            ("es", "arreglado en {}"),
            ("pt", "corrigido em {}"),
            ("it", "risolto in {}"),
            ("pl", "naprawione w {}"),
            ("ru", "исправлено в {}"),
            ("ja", "{}で修正"),
            ("zh", "{} 已修复"),
            ("hi", "{} में ठीक"),
            ("ar", "أصلح في {}"),
        ],
        [
            lambda: "commit " + hexes(40),
            lambda: "sha256:" + hexes(64),
            lambda: uuid(),
            lambda: hexes(8),
            lambda: "sk-" + "x" * _draw.randrange(12, 40),
            lambda: "AKIA" + "X" * _draw.randrange(8, 24),
            lambda: "ghp_" + "*" * _draw.randrange(8, 40),
            lambda: "main." + hexes(8) + ".js",
            lambda: "md5 " + hexes(32),
            lambda: "gpt-4o-2024-08-" + digits(2),
            lambda: "pk-primary-key-" + digits(2),
            lambda: "key-value-store-" + digits(2),
            lambda: "sk-learn-1." + digits(2),
            lambda: "SK" + digits(6),
        ],
    ),
    "secret": (
        [("en", "{}"), ("en", "note: {}"), ("en", "re: {}"), ("en", "fyi {}")],
        [],
    ),
}
SENTENCES = """
en|I forgot my password again
en|password must be at least 12 characters long
en|the token expired before the request was sent
en|Wrong password! Try again.
en|commit {sha} fixes the token refresh
en|token rotation landed in {sha}
en|image digest sha256:{sha64} pulled, token ok
en|{{"login.password": "Forgot your password?", "login.submit": "Sign in"}}
en|{{"password": "Enter your password"}}
en|<input type="password" name="pwd" autocomplete="new-password">
en|<label for="password">Password</label>
en|if (password === confirmPassword) submit()
en|const token = await getToken();
en|password: ${{DB_PASSWORD}}
en|password: {{{{ vault_password }}}}
en|password: <your-password>
en|password: ********
en|password: xxxxxxxx
en|api_key: YOUR_API_KEY
en|export TOKEN=$GITHUB_TOKEN
en|secretKeyRef: name: db-credentials
en|passwordHint: at least 8 characters
en|type Login = {{ password: string; token?: string }}
en|max_tokens: 4096
en|primary key: order_id
en|press any key to continue
en|the key takeaway is speed
en|reset-password page is down
en|password policy: see the wiki
en|your session token is invalid
en|key: value pairs in a map
en|secret santa is on friday
en|the password was changed yesterday
en|password is required
en|PIN pad is broken
en|the code review is done
en|access token missing in header
en|DB_PASSWORD is not set
en|"password": null
en|password field is empty
en|checksum {sha} matches, key ok
de|Ich habe mein Passwort vergessen, wo kann ich es zurücksetzen?
de|{{"login.password": "Passwort vergessen?", "login.submit": "Anmelden"}}
de|Das Passwort ist falsch!
de|Passwort: mindestens zehn Zeichen
de|Das Token ist abgelaufen
de|Kennwort ändern unter Einstellungen
de|Schlüssel liegt unter der Matte
de|Commit {sha} behebt das Token-Problem
de|Bitte Passwort eingeben
de|Passwort unbekannt
de|Geheimnis des Erfolgs
de|Prüfsumme {sha} stimmt, Schlüssel auch
fr|J'ai oublié mon mot de passe, où puis-je le changer ?
fr|Le mot de passe est trop court !
fr|{{"password": "Mot de passe", "submit": "Valider"}}
fr|Mot de passe oublié ?
fr|le jeton a expiré
fr|mot de passe obligatoire
fr|la clé est dans la boîte
fr|le commit {sha} corrige le jeton
fr|votre mot de passe doit contenir un chiffre
fr|code postal manquant
es|olvidé mi contraseña, ¿dónde la cambio?
es|La contraseña es incorrecta!
es|{{"password": "Contraseña", "forgot": "¿Olvidaste tu contraseña?"}}
es|el token ha caducado
es|contraseña obligatoria
es|la clave del éxito es dormir
es|el commit {sha} arregla el token
es|la contraseña debe tener ocho caracteres
pt|esqueci minha senha, onde posso mudar?
pt|A senha é fraca!
pt|{{"password": "Senha", "forgot": "Esqueceu a senha?"}}
pt|o token expirou
pt|senha obrigatória
pt|a chave do sucesso
pt|o commit {sha} corrige o token
it|ho dimenticato la password, dove la cambio?
it|La password è sbagliata!
it|{{"password": "Password dimenticata?", "ok": "Entra"}}
it|il token è scaduto
it|la chiave del successo
it|password obbligatoria
it|il commit {sha} corregge il token
pl|zapomniałem hasła, gdzie je zmienić?
pl|Hasło jest nieprawidłowe!
pl|{{"password": "Hasło", "forgot": "Nie pamiętasz hasła?"}}
pl|token wygasł
pl|hasło jest wymagane
pl|klucz do sukcesu
pl|commit {sha} naprawia token
ru|забыл пароль, где его сменить?
ru|Пароль неверный!
ru|{{"password": "Пароль", "forgot": "Забыли пароль?"}}
ru|токен истёк
ru|пароль обязателен
ru|ключ к успеху
ru|коммит {sha} чинит токен
ja|パスワードを忘れました
ja|パスワードが間違っています
ja|{{"password": "パスワード", "forgot": "パスワードをお忘れですか？"}}
ja|トークンの有効期限が切れました
ja|パスワードは必須です
ja|コミット {sha} でトークンを修正
zh|我忘记密码了，怎么重置？
zh|密码错误！
zh|{{"password": "密码", "forgot": "忘记密码？"}}
zh|令牌已过期
zh|密码不能为空
zh|提交 {sha} 修复了令牌
hi|मैं पासवर्ड भूल गया
hi|पासवर्ड गलत है
hi|{{"password": "पासवर्ड", "forgot": "पासवर्ड भूल गए?"}}
hi|टोकन समाप्त हो गया
ar|نسيت كلمة المرور
ar|كلمة المرور غير صحيحة
ar|{{"password": "كلمة المرور", "forgot": "نسيت كلمة المرور؟"}}
ar|انتهت صلاحية الرمز
"""


def crossed(kind: str) -> list[tuple[str, str, str, bool]]:
    """(category, language, text with the value in ⟦⟧, whether a value): each form in turn, each sentence in turn."""
    out: list[tuple[str, str, str, bool]] = []
    sentences, forms = FOUND[kind]
    for number in range(EACH):
        language, sentence = sentences[number % len(sentences)]
        form = forms[(number // len(sentences) + number) % len(forms)]
        out.append((kind, language, sentence.format(f"⟦{form()}⟧"), True))
    sentences, forms = CLEAN[kind]
    if kind == "secret":
        plain = [line.partition("|")[::2] for line in SENTENCES.strip().splitlines()]
        for number in range(EACH):
            language, text = plain[number % len(plain)]
            text = text.format(sha=hexes(40), sha64=hexes(64))
            again = number // len(plain)
            out.append((f"clean/{kind}", language, text if not again else f"{text} ({digits(2)})", False))
        return out
    for number in range(EACH):
        language, sentence = sentences[number % len(sentences)]
        form = forms[(number // len(sentences) + number) % len(forms)]
        first = form()
        lead = first.lstrip("v").split(".")[0]
        two = version(int(lead)) if kind == "ip" else ""
        out.append((f"clean/{kind}", language, sentence.replace("{}", first).replace("{two}", two), False))
    return out


def main() -> None:
    written, seen = [], set()
    for kind in FOUND:
        for category, language, marked, _ in crossed(kind):
            before, mark, rest = marked.partition("⟦")
            value, _, behind = rest.partition("⟧")
            text = before + value + behind
            if text in seen:
                continue
            seen.add(text)
            spans = [[len(before), len(before) + len(value)]] if mark else []
            line = {
                "id": f"c{len(written) + 1:04d}",
                "category": category,
                "language": language,
                "half": "crossed",
                "spans": spans,
            }
            written.append(make._hidden(json.dumps({**line, "text": text}, ensure_ascii=False)))
    OUT.write_text("\n".join(written) + "\n")
    print(f"{len(written)} lines")


if __name__ == "__main__":
    main()
