"""Writes `labelled.jsonl`: the sentences below with made-up values in them. `python tests/data/masking/make.py`.

`⟦…⟧` marks what must not survive; a line without it is clean and must come out as it went in. `{name}` is filled by
the function of that name, from one seed, so that the file is the same each time.
"""

import base64
import hashlib
import json
import random
import string
from collections.abc import Callable
from pathlib import Path

OUT = Path(__file__).parent / "labelled.jsonl"
_draw = random.Random(20261124)
_ALNUM = string.ascii_letters + string.digits
_UPPER = string.ascii_uppercase + string.digits
_LOWER = string.ascii_lowercase + string.digits


def some(alphabet: str, count: int) -> str:
    """Random characters, with a digit and a letter among them as real keys have."""
    mixed = count > 5 and any(c.isdigit() for c in alphabet) and any(c.isalpha() for c in alphabet)
    while True:
        text = "".join(_draw.choice(alphabet) for _ in range(count))
        if not mixed or (any(c.isdigit() for c in text) and any(c.isalpha() for c in text)):
            return text


def digits(count: int) -> str:
    return "".join(_draw.choice(string.digits) for _ in range(count))


def _luhn(body: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(body)):
        value = int(digit) * (1 if place % 2 else 2)
        total += value - 9 if value > 9 else value
    return body + str(-total % 10)


def card(prefix: str, length: int) -> str:
    return _luhn(prefix + digits(length - len(prefix) - 1))


def no_card(prefix: str, length: int) -> str:
    good = card(prefix, length)
    return good[:-1] + str((int(good[-1]) + 1) % 10)


def grouped(text: str, sizes: tuple[int, ...], by: str) -> str:
    parts, at = [], 0
    for size in sizes:
        parts.append(text[at : at + size])
        at += size
    return by.join(parts)


def iban(country: str, form: str) -> str:
    """`form`: n digit, a upper-case letter."""
    bban = "".join(_draw.choice(string.digits if c == "n" else string.ascii_uppercase) for c in form)
    number = int("".join(str(int(c, 36)) for c in bban + country + "00"))
    return f"{country}{98 - number % 97:02d}{bban}"


def fours(text: str, by: str = " ") -> str:
    return by.join(text[i : i + 4] for i in range(0, len(text), 4))


def ssn() -> str:
    area = _draw.choice([n for n in range(1, 900) if n != 666])
    return f"{area:03d}-{_draw.randrange(1, 100):02d}-{_draw.randrange(1, 10000):04d}"


def itin() -> str:
    return (
        f"9{_draw.randrange(100):02d}-{_draw.choice([50, 65, 70, 88, 90, 92, 94, 99])}-{_draw.randrange(1, 10000):04d}"
    )


def wide(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def script(text: str, zero: int) -> str:
    return "".join(chr(zero + int(c)) if c in string.digits else c for c in text)


def b64url(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def jwt() -> str:
    head = b64url('{"alg":"HS256","typ":"JWT"}')
    return f"{head}.{b64url(json.dumps({'sub': digits(8), 'name': 'Nobody'}))}.{some(_ALNUM + '_-', 43)}"


def pem(kind: str = "RSA ") -> str:
    body = "\n".join(some(_ALNUM + "+/", 64) for _ in range(3))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----"


def uuid() -> str:
    h = some("0123456789abcdef", 32)
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"


def hexes(count: int) -> str:
    return hashlib.sha512(digits(9).encode()).hexdigest()[:count]


def strong(count: int = 14) -> str:
    return (
        some(string.ascii_lowercase, 3)
        + some(string.ascii_uppercase, 3)
        + digits(3)
        + some("!#%*+-?", 2)
        + some(_ALNUM, count - 11)
    )


KEYS: dict[str, Callable[[], str]] = {
    "aws": lambda: "AKIA" + some(string.ascii_uppercase + "234567", 16),
    "aws_session": lambda: "ASIA" + some(string.ascii_uppercase + "234567", 16),
    "gcp": lambda: "AIza" + some(_ALNUM + "-_", 35),
    "gcp_oauth": lambda: "ya29." + some(_ALNUM + "-_", 60),
    "gcp_secret": lambda: "GOCSPX-" + some(_ALNUM + "-_", 28),
    "azure_ad": lambda: some(_ALNUM, 3) + "8Q~" + some(_ALNUM + "_~.-", 34),
    "alibaba": lambda: "LTAI" + some(_ALNUM, 20),
    "digitalocean": lambda: "dop_v1_" + hexes(64),
    "digitalocean_oauth": lambda: "doo_v1_" + hexes(64),
    "heroku": lambda: "HRKU-AA" + some(_ALNUM + "_-", 58),
    "github": lambda: "ghp_" + some(_ALNUM, 36),
    "github_app": lambda: "ghs_" + some(_ALNUM, 36),
    "github_oauth": lambda: "gho_" + some(_ALNUM, 36),
    "github_fine": lambda: "github_pat_" + some(_ALNUM, 22) + "_" + some(_ALNUM, 59),
    "gitlab": lambda: "glpat-" + some(_ALNUM + "-_", 20),
    "gitlab_runner": lambda: "glrt-" + some(_ALNUM + "-_", 20),
    "gitlab_deploy": lambda: "gldt-" + some(_ALNUM + "-_", 20),
    "bitbucket": lambda: "ATBB" + some(_ALNUM, 28) + some("0123456789ABCDEF", 4),
    "atlassian": lambda: "ATATT3" + some(_ALNUM + "-_=", 186),
    "stripe": lambda: "sk_live_" + some(_ALNUM, 24),
    "stripe_test": lambda: "sk_test_" + some(_ALNUM, 32),
    "stripe_restricted": lambda: "rk_live_" + some(_ALNUM, 24),
    "stripe_hook": lambda: "whsec_" + some(_ALNUM, 32),
    "paypal": lambda: "access_token$production$" + some(_LOWER, 16) + "$" + hexes(32),
    "square": lambda: "EAAA" + some(_ALNUM + "-_", 60),
    "square_secret": lambda: "sq0csp-" + some(_ALNUM + "-_", 43),
    "square_token": lambda: "sq0atp-" + some(_ALNUM + "-_", 22),
    "openai": lambda: "sk-" + some(_ALNUM, 20) + "T3BlbkFJ" + some(_ALNUM, 20),
    "openai_project": lambda: "sk-proj-" + some(_ALNUM + "-_", 74) + "T3BlbkFJ" + some(_ALNUM + "-_", 74),
    "anthropic": lambda: "sk-ant-api03-" + some(_ALNUM + "-_", 93) + "AA",
    "huggingface": lambda: "hf_" + some(string.ascii_letters, 34),
    "replicate": lambda: "r8_" + some(_ALNUM, 37),
    "groq": lambda: "gsk_" + some(_ALNUM, 52),
    "perplexity": lambda: "pplx-" + some(_ALNUM, 48),
    "xai": lambda: "xai-" + some(_ALNUM, 80),
    "openrouter": lambda: "sk-or-v1-" + hexes(64),
    "slack_bot": lambda: f"xoxb-{digits(12)}-{digits(13)}-{some(_ALNUM, 24)}",
    "slack_user": lambda: f"xoxp-{digits(12)}-{digits(12)}-{digits(12)}-{hexes(32)}",
    "slack_app": lambda: f"xapp-1-A{some(_UPPER, 10)}-{digits(13)}-{hexes(64)}",
    "slack_hook": lambda: f"https://hooks.slack.com/services/T{some(_UPPER, 8)}/B{some(_UPPER, 8)}/{some(_ALNUM, 24)}",
    "discord": lambda: "M" + b64url(digits(18))[:23] + "." + some(_ALNUM, 6) + "." + some(_ALNUM + "-_", 38),
    "discord_hook": lambda: f"https://discord.com/api/webhooks/{digits(18)}/{some(_ALNUM + '-_', 68)}",
    "telegram": lambda: f"{digits(9).replace('0', '7')}:AA{some(_ALNUM + '-_', 33)}",
    "twilio": lambda: "SK" + hexes(32),
    "twilio_account": lambda: "AC" + hexes(32),
    "sendgrid": lambda: f"SG.{some(_ALNUM + '-_', 22)}.{some(_ALNUM + '-_', 43)}",
    "mailgun": lambda: "key-" + hexes(32),
    "mailchimp": lambda: hexes(32) + "-us14",
    "brevo": lambda: "xkeysib-" + hexes(64) + "-" + some(_ALNUM, 16),
    "npm": lambda: "npm_" + some(_ALNUM, 36),
    "pypi": lambda: "pypi-AgEIcHlwaS5vcmc" + some(_ALNUM + "-_", 80),
    "docker": lambda: "dckr_pat_" + some(_ALNUM + "-_", 27),
    "rubygems": lambda: "rubygems_" + hexes(48),
    "crates": lambda: "cio" + some(_ALNUM, 32),
    "nuget": lambda: "oy2" + some(string.ascii_lowercase + "234567", 43),
    "sentry": lambda: "sntrys_eyJ" + some(_ALNUM + "+/", 80),
    "sentry_user": lambda: "sntryu_" + hexes(64),
    "sentry_dsn": lambda: f"https://{hexes(32)}@o{digits(6)}.ingest.sentry.io/{digits(7)}",
    "shopify": lambda: "shpat_" + hexes(32),
    "shopify_secret": lambda: "shpss_" + hexes(32),
    "vault": lambda: "hvs." + some(_ALNUM + "-_", 95),
    "databricks": lambda: "dapi" + hexes(32),
    "linear": lambda: "lin_api_" + some(_ALNUM, 40),
    "notion": lambda: "ntn_" + digits(11) + some(_ALNUM, 35),
    "notion_old": lambda: "secret_" + some(_ALNUM, 43),
    "figma": lambda: "figd_" + some(_ALNUM + "-_", 40),
    "grafana": lambda: "glsa_" + some(_ALNUM, 32) + "_" + hexes(8),
    "newrelic": lambda: "NRAK-" + some(_UPPER, 27),
    "postman": lambda: "PMAK-" + hexes(24) + "-" + hexes(34),
    "doppler": lambda: "dp.pt." + some(_ALNUM, 43),
    "pulumi": lambda: "pul-" + hexes(40),
    "terraform": lambda: some(_ALNUM, 14) + ".atlasv1." + some(_ALNUM + "-_", 64),
    "planetscale": lambda: "pscale_tkn_" + some(_ALNUM + "-_", 43),
    "supabase": lambda: "sbp_" + hexes(40),
    "airtable": lambda: "pat" + some(_ALNUM, 14) + "." + hexes(64),
    "facebook": lambda: "EAACEdEose0cBA" + some(_ALNUM, 60),
    "age": lambda: "AGE-SECRET-KEY-1" + some("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58),
    "onepassword": lambda: (
        f"A3-{some(_UPPER, 6)}-{some(_UPPER, 6)}-{some(_UPPER, 5)}-{some(_UPPER, 5)}-{some(_UPPER, 5)}-{some(_UPPER, 5)}"
    ),
    "dynatrace": lambda: f"dt0c01.{some(_UPPER, 24)}.{some(_UPPER, 64)}",
    "posthog": lambda: "phx_" + some(_ALNUM, 43),
    "langfuse": lambda: "sk-lf-" + uuid(),
}

# One sentence around each kind of value, in ten languages (and a few more); `%` is the place.
AROUND = {
    "email": """
en|Please send the invoice to %, thanks
en|I never got the reset mail, my account is %.
de|Bitte schicken Sie die Rechnung an %
de|Meine Adresse lautet %, danke!
fr|Mon adresse est %, merci de répondre
fr|Écrivez-moi à % quand c'est prêt
es|Mi correo es % y no recibo nada
es|Escríbeme a %, por favor
pt|Meu e-mail é %, pode confirmar?
pt|Envie a fatura para %
it|Scrivimi a % appena puoi
ru|Мой адрес %, напишите мне
ru|Отправьте счёт на % пожалуйста
ja|メールは%です。よろしくお願いします
ja|連絡先:%
zh|我的邮箱是%，请回复
zh|请发到%谢谢
ko|제 이메일은 %입니다
ko|%로 보내 주세요
ar|بريدي الإلكتروني هو % شكرا
ar|أرسل الفاتورة إلى %
tr|E-posta adresim % lütfen yazın
hi|मेरा ईमेल % है""",
    "phone": """
en|You can reach me at % after six
en|call me on % please
en|My mobile number is %.
en|Phone: %
en|WhatsApp %
de|Meine Handynummer ist %, bitte anrufen
de|Telefon: %
de|Rufen Sie mich unter % an
fr|Mon téléphone : %
fr|Appelez-moi au % demain
es|Mi teléfono es %
es|Llámame al % esta tarde
pt|Meu celular é %
pt|Liga para % depois das dez
it|Il mio cellulare è %
ru|Мой телефон %
ru|Позвоните мне по номеру %
ja|電話番号は%です
ja|%までお電話ください
zh|我的手机号是%
zh|请打电话%联系我
ko|제 전화번호는 %입니다
ko|% 로 전화 주세요
ar|رقم هاتفي هو %
ar|اتصل بي على % من فضلك
tr|Telefon numaram %
hi|मेरा फ़ोन नंबर % है""",
    "ssn": """
en|My SSN is %, can you check?
en|social security number: %
en|They asked for % on the form
en|applicant % was approved
es|Mi número de seguro social es %
fr|numéro de sécurité sociale américain %
zh|我的美国社保号是%
ru|Мой номер SSN: %
de|Meine amerikanische Sozialversicherungsnummer: %
ja|社会保障番号は%です""",
    "card": """
en|I paid with card % yesterday
en|my visa is %, exp 04/29
en|charge % again please
de|Meine Kreditkarte: %
fr|Ma carte bancaire est %
es|Mi tarjeta es % y no pasa
pt|Cartão %, validade 04/29
ru|Номер карты %, списали дважды
ja|カード番号は%です
zh|我的卡号是%
ko|카드 번호는 %입니다
ar|رقم بطاقتي %
it|La mia carta: %
hi|मेरा कार्ड % है""",
    "iban": """
en|Please refund to %
en|IBAN: %, BIC later
de|Bitte überweisen Sie auf % bis Freitag
fr|Voici mon RIB : %
es|Mi cuenta es %
pt|Transfira para %
it|Il mio IBAN è %.
ru|Счёт для перевода %
zh|退款账号%谢谢
ar|حسابي البنكي %
nl|Maak het over naar %""",
    "ip": """
en|Requests from % time out
en|my address is %, please allow it
en|blocked % after five tries
de|Der Rechner % antwortet nicht
fr|L'adresse % est bloquée
es|La IP % no responde
pt|O servidor vê % como origem
ru|Запросы идут с %
ja|IPアドレスは%です
zh|来自%的请求失败
ko|%에서 접속했습니다
ar|العنوان % محظور""",
    "key": """
en|I use %
en|here is the key: %
en|export TOKEN=%
en|{"key":"%"}
en|why does % give 401?
de|Mein Schlüssel ist %
fr|voici la clé %
es|la clave es %
pt|a chave é %
ru|мой ключ %
ja|キーは%です
zh|密钥是%，为什么报错
ko|키는 %입니다
ar|المفتاح هو %""",
}

CONTEXT = """
en|my password is ⟦{strong}⟧
en|Password: ⟦{strong}⟧
en|password = "⟦{weak}⟧"
en|The password I use everywhere is ⟦{strong}⟧, is that safe?
en|DB_PASSWORD=⟦{strong}⟧
en|login ada / pass: ⟦{weak}⟧
en|pwd: ⟦{weak}⟧
en|use passphrase "⟦{strong}⟧" to unlock
en|{{"username":"ada","password":"⟦{weak}⟧"}}
en|{{\\"user\\":\\"ada\\",\\"password\\":\\"⟦{weak}⟧\\"}}
en|client_secret: ⟦{high32}⟧
en|client_secret=⟦{hex40}⟧
en|api_key: ⟦{high32}⟧
en|apiKey="⟦{high40}⟧"
en|X-Api-Key: ⟦{high32}⟧
en|my api key is ⟦{high32}⟧
en|API key ⟦{hex32}⟧ stopped working
en|access_token=⟦{high40}⟧
en|"access_token": "⟦{high40}⟧"
en|refresh token: ⟦{high40}⟧
en|auth token ⟦{high32}⟧
en|SECRET_KEY = '⟦{high40}⟧'
en|secret: ⟦{high24}⟧
en|the token is ⟦{high32}⟧
en|token=⟦{high24}⟧
en|aws_secret_access_key = ⟦{aws_secret}⟧
en|AWS_SECRET_ACCESS_KEY=⟦{aws_secret}⟧
en|private key 0x⟦{hex64}⟧
en|signing secret ⟦{hex32}⟧
en|encryption key: ⟦{b64}⟧
en|HEROKU_API_KEY=⟦{uuid}⟧
en|DATADOG_API_KEY=⟦{hex32}⟧
en|dd-api-key: ⟦{hex32}⟧
en|TWILIO_AUTH_TOKEN=⟦{hex32}⟧
en|COHERE_API_KEY=⟦{high40}⟧
en|MISTRAL_API_KEY=⟦{high32}⟧
en|okta token 00⟦{high40}⟧
en|my wifi password is ⟦{weak}⟧ :)
en|PIN: ⟦{pin}⟧
en|password is ⟦{pin6}⟧ right?
de|Mein Passwort ist ⟦{strong}⟧
de|Passwort: ⟦{weak}⟧
de|Das Kennwort lautet ⟦{strong}⟧
de|API-Schlüssel: ⟦{high32}⟧
de|Zugangsdaten: ada / Kennwort ⟦{strong}⟧
de|Der geheime Schlüssel ist ⟦{high32}⟧
fr|mon mot de passe est ⟦{strong}⟧
fr|Mot de passe : ⟦{weak}⟧
fr|mdp: ⟦{weak}⟧
fr|clé API : ⟦{high32}⟧
fr|le jeton est ⟦{high32}⟧
fr|clé secrète : ⟦{high32}⟧
es|mi contraseña es ⟦{strong}⟧
es|Contraseña: ⟦{weak}⟧
es|clave de API: ⟦{high32}⟧
es|la clave es ⟦{strong}⟧
es|contrasena=⟦{weak}⟧
pt|minha senha é ⟦{strong}⟧
pt|Senha: ⟦{weak}⟧
pt|chave de API: ⟦{high32}⟧
pt|a senha do wifi é ⟦{weak}⟧
pt|token de acesso: ⟦{high32}⟧
it|la mia password è ⟦{strong}⟧
it|parola d'ordine: ⟦{weak}⟧
it|chiave API: ⟦{high32}⟧
ru|мой пароль ⟦{strong}⟧
ru|Пароль: ⟦{weak}⟧
ru|пароль от почты — ⟦{strong}⟧
ru|ключ API: ⟦{high32}⟧
ru|токен ⟦{high32}⟧ не работает
ru|секретный ключ: ⟦{high32}⟧
ja|パスワードは⟦{strong}⟧です
ja|パスワード：⟦{weak}⟧
ja|APIキー: ⟦{high32}⟧
ja|トークンは⟦{high32}⟧です
ja|秘密鍵 ⟦{high32}⟧
ja|暗証番号は⟦{pin}⟧です
zh|密码是⟦{strong}⟧
zh|密码：⟦{weak}⟧
zh|我的密码⟦{weak}⟧登录不了
zh|API密钥：⟦{high32}⟧
zh|令牌 ⟦{high32}⟧
zh|密碼: ⟦{weak}⟧
ko|비밀번호는 ⟦{strong}⟧입니다
ko|비밀번호: ⟦{weak}⟧
ko|비번 ⟦{weak}⟧
ko|API 키: ⟦{high32}⟧
ko|토큰은 ⟦{high32}⟧입니다
ar|كلمة المرور هي ⟦{strong}⟧
ar|كلمة السر: ⟦{weak}⟧
ar|مفتاح API: ⟦{high32}⟧
ar|رمز الدخول: ⟦{high24}⟧
tr|şifrem ⟦{strong}⟧
tr|parola: ⟦{weak}⟧
hi|मेरा पासवर्ड ⟦{strong}⟧ है
nl|mijn wachtwoord is ⟦{strong}⟧
pl|hasło: ⟦{weak}⟧
en|Authorization: Bearer ⟦{high40}⟧
en|curl -H "Authorization: Bearer ⟦{high40}⟧" https://api.example.com
en|authorization: bearer ⟦{hex40}⟧
en|Authorization: Basic ⟦{basic}⟧
en|Proxy-Authorization: Basic ⟦{basic}⟧
en|Authorization: Token ⟦{hex40}⟧
en|curl -u ada:⟦{strong}⟧ https://api.example.com/v1
en|Cookie: sessionid=⟦{high32}⟧; theme=dark
en|https://ada:⟦{strong2}⟧@git.example.com/repo.git
en|postgres://app:⟦{strong2}⟧@db.example.com:5432/shop
en|postgresql://app:⟦{weak}⟧@localhost/shop
en|mysql://root:⟦{weak}⟧@10.0.0.5:3306/shop
en|mongodb+srv://app:⟦{strong2}⟧@cluster0.example.net/test
en|redis://:⟦{high24}⟧@cache.example.com:6379/0
en|amqp://app:⟦{weak}⟧@mq.example.com/vhost
en|Server=db.example.com;Database=shop;User Id=app;Password=⟦{strong}⟧;
en|Data Source=db;Uid=app;Pwd=⟦{weak}⟧;Encrypt=yes
en|DefaultEndpointsProtocol=https;AccountName=shop;AccountKey=⟦{azure}⟧;EndpointSuffix=core.windows.net
en|https://app.example.com/reset?token=⟦{high32}⟧&lang=en
en|https://api.example.com/v1/items?api_key=⟦{high32}⟧
en|https://api.example.com/cb?code=200&access_token=⟦{high40}⟧
en|https://bucket.s3.amazonaws.com/a?X-Amz-Signature=⟦{hex64}⟧
en|https://shop.blob.core.windows.net/a?sv=2022-11-02&sig=⟦{sig}⟧
en|https://example.com/login?user=ada&password=⟦{weak}⟧
en|jdbc:postgresql://db.example.com/shop?user=app&password=⟦{weak}⟧
en|{jwt_line}
en|session eyJ: ⟦{jwt}⟧ expired
de|Mein JWT: ⟦{jwt}⟧
ja|トークン⟦{jwt}⟧が無効です
en|⟦{pem}⟧
en|here it is⏎⟦{pem}⟧⏎please check
en|⟦{pem_ec}⟧
en|⟦{pem_plain}⟧
en|"private_key": "⟦{pem_escaped}⟧"
en|⟦{pem_ssh}⟧
"""

# What a person's value looks like in the wild, one per line: `|`-free text with the mark around the value.
TRICKS = """
email|en|mail me: ⟦ada.lovelace＠example.com⟧
email|en|⟦ada．lovelace＠example．com⟧ is mine
email|ja|ＭＡＩＬ：⟦ａｄａ＠ｅｘａｍｐｌｅ．ｃｏｍ⟧
email|zh|邮箱⟦wang@example。com⟧
email|en|it is ⟦ada\u200blovelace@exam\u200bple.com⟧ ok
email|en|⟦a\u200bd\u200ba\u200b@\u200be\u200bx\u200ba\u200bm\u200bp\u200bl\u200be\u200b.\u200bc\u200bo\u200bm⟧
email|en|⟦ada\u2060@example\ufeff.com⟧
email|en|⟦ada.l@exa\u00admple.org⟧
email|en|⟦ada\u00a0@\u00a0example.com⟧
email|en|⟦ada.lovelace@⏎example.com⟧ wraps
email|en|⟦ada.lovelace⏎@example.com⟧ wraps too
email|en|⟦ada [at] example [dot] com⟧
email|en|⟦ada(at)example.com⟧ please
email|en|⟦ada at example dot com⟧
email|de|schreib an ⟦ada (at) beispiel (punkt) de⟧
email|en|⟦ada{at}example.com⟧
email|de|⟦jörg.müller@bücher.example⟧
email|de|Grüße an ⟦jörg@müller.de⟧
email|ru|пишите на ⟦иван@почта.рф⟧
email|zh|请联系⟦用户@例子.中国⟧
email|ko|메일은 ⟦홍길동@예시.한국⟧
email|ar|⟦مستخدم@مثال.السعودية⟧ بريدي
email|en|<⟦ada.lovelace+news@mail.example.co.uk⟧>
email|en|mailto:⟦ada@example.com⟧?subject=hi
email|en|https://shop.example/reset?mail=⟦ada%40example.com⟧&step=2
email|en|{"e":"⟦ada\\u0040example.com⟧"}
email|en|{\\"email\\":\\"⟦ada@example.com⟧\\"}
email|en|"Ada L." <⟦o'brien_77@example.ie⟧>
email|en|⟦ADA@EXAMPLE.COM⟧
email|en|cc:⟦ada@example.com⟧,⟦bob@example.org⟧;⟦eve@example.net⟧
email|en|⟦a@b.co⟧
email|en|user=⟦ada_77@example.museum⟧
email|en|xn: ⟦ada@xn--bcher-kva.example⟧
phone|en|⟦+1 (415) 555-0132⟧
phone|en|⟦+14155550132⟧
phone|en|⟦(415) 555-0132⟧ is home
phone|en|⟦415-555-0132⟧
phone|en|⟦415.555.0132⟧ after five
phone|en|⟦1-800-555-0199⟧
phone|en|⟦+1\u00a0415\u00a0555\u00a00132⟧
phone|en|⟦＋１ ４１５ ５５５ ０１３２⟧
phone|en|call ⟦４１５－５５５－０１３２⟧
phone|ar|هاتف ⟦٠٥٠١٢٣٤٥٦٧⟧
phone|ar|⟦+٩٦٦ ٥٠ ١٢٣ ٤٥٦٧⟧
phone|hi|फ़ोन ⟦९८७६५४३२१०⟧
phone|fa|تلفن ⟦۰۹۱۲۳۴۵۶۷۸۹⟧
phone|en|⟦+44 7700 900\u200b123⟧
phone|en|⟦+44⏎7700 900123⟧
phone|en|⟦+44 (0)20 7946 0018⟧
phone|en|⟦0044 20 7946 0018⟧
phone|en|⟦07700 900123⟧
phone|en|⟦020 7946 0018⟧
phone|en|tel:⟦+44-20-7946-0018⟧
phone|en|⟦415–555–0132⟧
phone|en|⟦(415)\u00a0555‑0132⟧
phone|en|my number: ⟦4155550132⟧
phone|en|text ⟦4155550132⟧ when you are here
phone|en|⟦+1-415-555-0132 ext. 5⟧
phone|de|⟦+49 151 23456789⟧
phone|de|⟦0151 23456789⟧
phone|de|⟦030/23125123⟧
phone|de|⟦(030) 23125-123⟧
phone|de|⟦+49 (0) 30 23125 123⟧
phone|de|Handy ⟦015123456789⟧
phone|de|Tel. ⟦089 2312 5123⟧
phone|fr|⟦06 39 98 12 34⟧
phone|fr|⟦+33 6 39 98 12 34⟧
phone|fr|⟦01.99.00.12.34⟧
phone|fr|portable ⟦0639981234⟧
phone|es|⟦+34 612 345 678⟧
phone|es|móvil ⟦612345678⟧
phone|es|tel. ⟦612 34 56 78⟧
phone|pt|⟦(11) 91234-5678⟧
phone|pt|⟦+55 11 91234-5678⟧
phone|pt|telemóvel ⟦912 345 678⟧
phone|it|⟦+39 347 123 4567⟧
phone|it|cell. ⟦3471234567⟧
phone|ru|⟦+7 (912) 345-67-89⟧
phone|ru|⟦8 (912) 345-67-89⟧
phone|ru|тел. ⟦89123456789⟧
phone|ru|⟦8-912-345-67-89⟧
phone|ja|⟦090-1234-5678⟧
phone|ja|⟦03-1234-5678⟧まで
phone|ja|携帯⟦09012345678⟧
phone|ja|電話:⟦０９０－１２３４－５６７８⟧
phone|zh|⟦+86 138 1234 5678⟧
phone|zh|手机⟦13812345678⟧
phone|zh|⟦138-1234-5678⟧
phone|zh|电话 ⟦010-12345678⟧
phone|ko|⟦010-1234-5678⟧
phone|ko|휴대폰 ⟦01012345678⟧
phone|ko|⟦+82 10-1234-5678⟧
phone|hi|⟦+91 98765 43210⟧
phone|en|mobile ⟦98765 43210⟧
phone|tr|⟦0532 123 45 67⟧
phone|pl|tel. ⟦601 234 567⟧
phone|nl|⟦06-12345678⟧
phone|sv|⟦070-123 45 67⟧
phone|en|⟦0412 345 678⟧
phone|en|⟦(02) 9876 5432⟧
phone|en|{"phone":"⟦4155550132⟧"}
phone|en|phone=⟦%2B14155550132⟧
phone|en|⟦+971 50 123 4567⟧
phone|en|⟦+353 85 123 4567⟧
phone|en|⟦+41 79 123 45 67⟧
phone|en|fax: ⟦415 555 0132⟧
ssn|en|⟦078‑05‑1120⟧ with odd dashes
ssn|en|ssn ⟦０７８－０５－１１２０⟧
ssn|en|ssn ⟦078\u00a005\u00a01120⟧
ssn|en|SSN:⟦078051120⟧
ssn|en|social security ⟦457551462⟧
ssn|en|⟦457\u200b-55-\u200b1462⟧
ssn|en|⟦457-55-⏎1462⟧
ssn|en|{"ssn":"⟦457-55-1462⟧"}
ssn|ar|SSN ⟦٤٥٧-٥٥-١٤٦٢⟧
ssn|en|my ssn is ⟦457.55.1462⟧
ssn|en|⟦457–55–1462⟧
ssn|en|ITIN ⟦912-70-1234⟧
ssn|en|itin: ⟦912701234⟧
ip|en|⟦203.0.113.77⟧:8443 refused
ip|en|from ⟦198.51.100.23⟧, port 443
ip|en|http://⟦203.0.113.9⟧/admin
ip|en|ssh root@⟦203.0.113.9⟧
ip|en|⟦203.0.113.0⟧/24 is ours
ip|en|[⟦2001:db8:85a3::8a2e:370:7334⟧]:443
ip|en|⟦2001:0db8:85a3:0000:0000:8a2e:0370:7334⟧ is mine
ip|en|⟦fe80::1ff:fe23:4567:890a⟧%eth0
ip|en|⟦::ffff:203.0.113.7⟧
ip|en|X-Forwarded-For: ⟦203.0.113.7⟧, ⟦198.51.100.4⟧
ip|zh|⟦２０３．０．１１３．７⟧
ip|en|⟦203.0\u200b.113.7⟧
ip|ar|⟦٢٠٣.٠.١١٣.٧⟧
ip|en|⟦192.168.17.20⟧ is the printer
ip|en|{"ip":"⟦203.0.113.7⟧"}
ip|en|⟦2001:db8::42⟧ pings
ip|en|ip=⟦203.0.113.7⟧&x=1
"""

CLEAN = """
order|en|Order 2026-118-7742 has not shipped
order|en|order number {d10}, two items
order|en|order #{d8} is late
order|en|ticket {d7} was closed
order|en|Invoice INV-2026-004512 is due
order|en|PO 4500123987 line 10
order|en|order {no_card} was cancelled
order|en|order {no_card_grouped} was cancelled
order|en|confirmation {no_card_grouped}
order|en|reference ORD-123-45-6789
order|en|case 5551234567 is open
order|en|transaction id {d16_one}
order|en|customer no. {d9}
order|de|Bestellung {d10} ist nicht da
order|de|Rechnung Nr. 2026/004512
order|de|Kundennummer {d8}
order|de|Auftrag {no_card} wurde storniert
order|fr|Commande {d10} en retard
order|fr|facture n° 2026-004512
order|es|Pedido {d10} no ha llegado
order|es|factura 2026-004512 vencida
order|pt|Pedido {d10} atrasado
order|pt|nota fiscal {d9}
order|ru|Заказ {d10} не пришёл
order|ru|счёт № 2026-004512
order|ja|注文番号{d10}が届きません
order|ja|注文 {no_card_grouped}
order|zh|订单号{d12}还没发货
order|zh|发票号码 {d8}
order|ko|주문번호 {d10} 배송이 안 왔어요
order|ar|الطلب رقم {d10} لم يصل
order|it|Ordine {d10} in ritardo
tracking|en|tracking 1Z999AA1{d10}
tracking|en|USPS 9400 1{d3} 9956 1234 5678 90
tracking|en|tracking number {d12}
tracking|de|Sendungsnummer 00340434{d12}
tracking|en|DHL JD0146000{d9}
tracking|en|RR{d9}CN is stuck in customs
id|en|event {uuid} failed
id|en|id={uuid}
id|en|thread {uuid}, message {uuid}
id|en|session-00123 and user_00042
id|en|row key {uuid}
id|en|trace {hex32} span {hex16}
id|en|object id {hex24}
id|en|partition key {uuid}
id|en|primary key {d9}
id|en|call id {d9}
id|en|device id {d15}
id|en|the phone model SM-G991B has 128 GB
id|en|ASIN B08N5WRWNW
id|en|VIN 1HGCM82633A004352
id|en|EAN {ean}
id|de|Artikelnummer 123-456-7890
id|en|part 555-0199-B
hash|en|commit {hex40} broke it
hash|en|commit {hex7} is fine
hash|en|sha256:{hex64}
hash|en|md5 {hex32}
hash|en|etag "{hex32}"
hash|en|sha1 {hex40} differs
hash|en|integrity sha512-{b64_88}
hash|de|Prüfsumme {hex64}
hash|ru|хеш {hex40}
hash|ja|コミット{hex40}を見てください
hash|en|docker image app@sha256:{hex64}
hash|en|cache key {hex32}
time|en|at 2026-11-24T00:20:03.123Z it failed
time|en|2026-11-24 00:20:03 +0100
time|en|created 1764000000123
time|en|ts=1764000000
time|en|1764000000.123456 s
time|en|from 09:30 to 17:45 on 24.11.2026
time|de|am 24.11.2026 um 12:30 Uhr
time|de|01.02.2026 09:30
time|fr|le 24/11/2026 à 09 h 30
time|es|el 24-11-2026 a las 9:30
time|ru|24.11.2026 в 12:30
time|ja|2026年11月24日 12:30
time|zh|2026-11-24 12:30:45
time|en|duration 00:12:45.678
time|en|20261124T002003Z
time|en|nanos 1764000000123456789
version|en|upgrade to 4.18.2.1 soon
version|en|Chrome/126.0.0.0 Safari/537.36
version|en|Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.6478.127 Safari/537.36
version|en|version 10.0.19045.1 of the driver
version|en|v1.2.3.4 is out
version|en|react@18.2.0 breaks
version|en|@types/node@20.11.5 and typescript@5.4.2
version|en|pip install numpy==1.26.4
version|en|Python 3.11.7 on Ubuntu 22.04.3
version|en|build 2026.11.24.1
version|en|firmware 1.0.0.72 beta
version|en|1.2.3-rc.1+build.45-6789
version|en|OID 1.3.6.1.4.1.311.21.20
version|de|Version 7.4.0.3 läuft
version|zh|版本 1.2.3.4
version|en|npm i lodash@4.17.21
version|en|see section 1.2.3.4 of the manual
price|en|it costs 1,299.00 USD
price|en|total $12,345.67 incl. VAT
price|de|1.234.567,89 EUR im Jahr
price|fr|1 234 567,89 € par an
price|ru|цена 1 234 567 рублей
price|ja|¥1,234,567 です
price|zh|价格 ¥1,234,567
price|es|son 612 345 678 pesos
price|en|population 331 002 651
price|en|tokens used: 128000 of 200000
price|en|max_tokens=4096 temperature=0.7
price|en|password length 12, attempts 3
price|en|0.4111111111111111 ratio
price|en|3.14159265358979
price|pt|R$ 1.234.567,89
price|ko|1,234,567원
price|ar|السعر ١٢٣٤٥٦ ريال
model|en|gpt-4o-mini-2024-07-18 is cheap
model|en|claude-3-5-sonnet-20241022
model|en|try gemini-1.5-pro-002
model|en|llama-3.1-8b-instruct-q4_K_M.gguf
model|en|text-embedding-3-small vs ada-002
model|en|Samsung Galaxy S24 Ultra 512 GB
model|en|the sk-learn package and task-scheduler
model|en|mistralai/Mixtral-8x7B-Instruct-v0.1
book|en|ISBN 978-3-16-148410-0
book|en|ISBN-10 0-306-40615-2
book|en|isbn 9783161484100
book|de|ISBN: 978-3-86680-192-9
book|en|ISSN 2049-3630
book|en|doi 10.1000/182.2026.1234
book|zh|书号 978-7-111-54742-6
handle|en|@home and @work
handle|en|ask @ada_lovelace on the forum
handle|en|@app.route decorator
handle|en|@media (min-width: 768px)
handle|en|lunch @ noma tomorrow
handle|en|logo@2x.png is blurry
handle|en|git@github.com:example/repo.git
handle|en|the @ sign in C#
handle|en|meet @ 5.30 pm
handle|en|user@localhost
handle|de|@Override fehlt
handle|ru|пишите @ada_l в чат
handle|zh|@小明 看一下
handle|ja|@山田さん お願いします
colour|en|colour #ff8800 and #1a2b3c4d
colour|en|rgb(12, 34, 56)
colour|en|1920x1080 at 60 Hz
colour|en|192 x 168 x 10 cm
colour|en|52.5200, 13.4050
colour|en|geo 40.712776,-74.005974
colour|en|10 000 000 000 rows
colour|en|localhost:8080 and 127.0.0.1:5432
colour|en|0.0.0.0 means all
colour|en|::1 is loopback
colour|en|std::vector and a::b
colour|en|Face::Add and dead::code
colour|en|12:34:56:78 ratio
colour|en|MAC 00:1A:2B:3C:4D:5E
colour|en|2001:a space odyssey
file|en|IMG_20261124_123045.jpg
file|en|report-2026-11-24.pdf
file|en|backup.2026.11.24.tar.gz
file|en|C:\\Users\\ada\\new\\table.csv
file|en|/usr/lib/python3.11/site-packages/re2/__init__.py
file|en|data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk
file|en|https://example.com/a/b?page=2&sort=price_desc
file|en|https://example.com/watch?v=dQw4w9WgXcQ&t=120
file|en|https://cdn.example.com/app.3f2a9c1b.min.js
file|en|s3://bucket/2026/11/24/part-00001.parquet
file|en|https://example.com/?utm_source=news&key=value
file|en|at Object.run (/srv/app/index.js:123:45)
words|en|I forgot my password, how do I reset it?
words|en|the password is wrong
words|en|password: required
words|en|Password must have 8 characters
words|en|what is a token in this model?
words|en|my api key does not work
words|en|API key: missing
words|en|the secret to good bread is time
words|en|key takeaways: faster, cheaper
words|en|press any key to continue
words|en|token limit exceeded
words|en|set password: ********
words|en|password=<your password>
words|en|api_key: YOUR_API_KEY
words|en|token: ${{GITHUB_TOKEN}}
words|en|password: null
words|en|secret santa on 24 December
words|en|const password = getPassword()
words|en|public key infrastructure
words|en|keyboard layout is wrong
words|en|the phone rings twice
words|en|call the function with 3 arguments
words|en|call 3 of 10 failed with code 500
words|en|bearer of good news
words|en|basic authentication is off
words|en|I call it a day, 12 hours
words|en|mobile app version 12.4.1
words|en|phone support from 9 to 17
words|en|text 1 of 3, mobile view 375 px
words|en|Tel Aviv office, 3rd floor
words|de|Ich habe mein Passwort vergessen
words|de|Passwort: falsch
words|de|Der Schlüssel zum Erfolg ist Übung
words|de|Das Handy ist neu
words|de|Telefon ist besetzt, 3 Versuche
words|fr|mot de passe oublié
words|fr|la clé du problème
words|fr|mon téléphone est cassé
words|fr|appel de fonction avec 3 arguments
words|es|olvidé mi contraseña
words|es|contraseña incorrecta
words|es|la clave del éxito
words|es|el teléfono no suena
words|pt|esqueci minha senha
words|pt|senha: obrigatória
words|pt|a chave do sucesso
words|it|ho dimenticato la password
words|it|la chiave del successo
words|ru|я забыл пароль
words|ru|пароль неверный
words|ru|ключ к успеху
words|ru|телефон не звонит
words|ja|パスワードを忘れました
words|ja|パスワードは8文字以上です
words|ja|電話が鳴りません
words|ja|キーは何ですか
words|zh|我忘记密码了
words|zh|密码错误
words|zh|成功的关键是练习
words|zh|手机没电了
words|ko|비밀번호를 잊어버렸어요
words|ko|비밀번호: 필수
words|ko|전화가 안 와요
words|ar|نسيت كلمة المرور
words|ar|كلمة المرور خاطئة
words|ar|مفتاح النجاح هو الصبر
words|ar|الهاتف لا يعمل
prose|en|The weekly report is late again, please check the numbers
prose|en|Thanks! 👍🏽 the export works now 👨‍👩‍👧
prose|en|Can you summarise the thread about billing in 3 points?
prose|en|We grew 12.5 % in Q3 2026, from 1,204 to 1,355 teams
prose|en|rows 100-200-300 of sheet 4
prose|en|the ratio is 16:9, 24 fps
prose|en|score 3-2, 5-4, 6-7
prose|en|steps 1-2-3-4-5-6-7-8-9-10
prose|en|10 20 30 40 50 60
prose|de|Der Bericht ist wieder zu spät, bitte prüfen
prose|de|Größe 42, Länge 30 cm, 3 Stück
prose|fr|L'export ne marche plus depuis hier soir
prose|fr|Réunion à 14 h 30, salle 204
prose|es|¿Puedes resumir el hilo sobre facturación?
prose|pt|O relatório está atrasado de novo
prose|it|Il rapporto è di nuovo in ritardo
prose|ru|Отчёт снова опаздывает, проверьте цифры
prose|ja|週次レポートがまた遅れています。数字を確認してください
prose|ja|会議は１４時３０分からです
prose|zh|周报又晚了，请检查一下数字
prose|zh|会议在１４：３０开始
prose|ko|주간 보고서가 또 늦었어요
prose|ar|التقرير الأسبوعي متأخر مرة أخرى
prose|ar|الاجتماع الساعة ٢:٣٠
prose|hi|रिपोर्ट फिर से देर से आई है
prose|tr|Rapor yine gecikti
json|en|{{"status":200,"items":[1,2,3],"ok":true}}
json|en|{{\\"page\\":2,\\"size\\":50}}
json|en|{{"model":"gpt-4o","tokens":1250,"latency_ms":812}}
json|en|{{"key":"value","id":{d7}}}
json|en|SELECT * FROM events WHERE id = {d8} LIMIT 100
json|en|for i in range(10): print(i ** 2)
json|en|git rebase -i HEAD~3 && git push origin main
json|en|x = a[3] + b[12] - 0x1F4B
json|en|<div class="col-md-6 p-3" id="row-12">
json|en|margin: 0 12px 24px 36px
json|en|HTTP/1.1 404 Not Found
json|en|chmod 0755 run.sh
order|de|Ticket {d7} ist noch offen, Vorgang {d10}
order|fr|numéro de commande {d10}, deux articles
order|es|número de pedido {d8}
order|pt|número do pedido {d8}
order|it|numero d'ordine {d10}
order|ru|номер заказа {d10}
order|zh|订单编号{no_card}
order|ko|주문 {no_card_grouped}
order|ar|رقم الطلب {d10}
order|tr|sipariş numarası {d10}
order|hi|ऑर्डर नंबर {d10}
id|de|Geräte-ID {hex32}
id|fr|identifiant {uuid}
id|es|identificador {uuid}
id|ru|идентификатор {uuid}
id|ja|ID は {uuid} です
id|zh|设备编号 {hex16}
id|ko|아이디 {uuid}
time|ru|в 12:30 24.11.2026, повтор через 15 минут
time|ko|2026년 11월 24일 12시 30분
time|ar|٢٤/١١/٢٠٢٦ الساعة ١٢:٣٠
time|pt|em 24/11/2026 às 09h30
version|ja|バージョン 1.2.3.4 に更新
version|fr|la version 4.18.2.1 plante
version|es|versión 10.0.19045.1
version|ru|версия 7.4.0.3 не ставится
price|hi|कीमत १२३४५६ रुपये
price|tr|12.345,67 TL
price|it|1.234.567,89 euro
words|fr|Mot de passe : obligatoire
words|es|Contraseña: requerida
words|ru|Пароль: обязательно
words|ja|パスワード：必須
words|zh|密码：必填
words|tr|şifremi unuttum
words|pl|zapomniałem hasła
words|nl|wachtwoord vergeten
words|hi|मैं पासवर्ड भूल गया
words|en|tokens: input 1200, output 350
words|en|the key metric is retention at 30 days
words|en|secret ingredient: 200 g butter
words|en|sort key order_id, partition key user_00042
"""


def _emails() -> list[str]:
    names = ["ada.lovelace", "bob", "c.dupont", "maria_s", "jan-77", "x.y.z", "kim+shop", "info.desk"]
    hosts = ["example.com", "example.org", "mail.example.net", "shop.example.co.uk", "beispiel.example.de"]
    return [f"{_draw.choice(names)}@{_draw.choice(hosts)}" for _ in range(52)]


def _phones() -> list[str]:
    """Numbers of ranges kept for fiction, or of a country's form."""
    forms = """+1 415 555 01##|(212) 555-01##|646-555-01##|+44 7700 900###|07700 900###|020 7946 0###|+49 30 23125 ###
0171 39200##|+33 6 39 98 ## ##|06 39 98 ## ##|+34 6## ## ## ##|+55 (11) 9####-####|(21) 9####-####|+7 912 ###-##-##
8 (495) ###-##-##|+81 90-####-####|080-####-####|+86 13# #### ####|139 #### ####|+82 10-####-####|010-####-####
+966 5# ### ####|05# ### ####|+91 9#### #####|+90 532 ### ## ##|+39 347 ### ####|+61 491 570 ###"""
    out = []
    for form in forms.replace("\n", "|").split("|"):
        out.append("".join(_draw.choice("23456789") if c == "#" else c for c in form))
    return out


def _cards() -> list[str]:
    four = (4, 4, 4, 4)
    kinds = [("4", 16, four), ("51", 16, four), ("2221", 16, four), ("34", 15, (4, 6, 5)), ("37", 15, (4, 6, 5)),
             ("6011", 16, four), ("3528", 16, four), ("36", 14, (4, 6, 4)), ("62", 16, four), ("55", 16, four),
             ("2200", 16, four), ("6759", 16, four), ("4", 16, four), ("65", 16, four)]  # fmt: skip
    out = []
    for prefix, length, sizes in kinds:
        for by in ("", " ", "-", "wide", "\u00a0", "arabic", "\n", "\u200b"):
            number = card(prefix, length)
            if by == "wide":
                number = wide(number)
            elif by == "arabic":
                number = script(grouped(number, sizes, " "), 0x660)
            elif by:
                number = grouped(number, sizes, by)
            out.append(number)
    _draw.shuffle(out)
    return out[:56]


def _ibans() -> list[str]:
    forms = {"DE": "n" * 18, "FR": "n" * 10 + "nnnaannnnnn" + "nn", "GB": "aaaa" + "n" * 14, "ES": "n" * 20,
             "PT": "n" * 21, "IT": "a" + "n" * 22, "NL": "aaaa" + "n" * 10, "CH": "n" * 17, "AT": "n" * 16,
             "BE": "n" * 12, "PL": "n" * 24, "SA": "nn" + "n" * 18, "TR": "n" * 22, "NO": "n" * 11, "AE": "n" * 19}  # fmt: skip
    out = []
    for country, form in forms.items():
        out += [iban(country, form), fours(iban(country, form)), fours(iban(country, form), "\u00a0")]
    out += [
        iban("DE", "n" * 18).lower(),
        wide(iban("FR", "n" * 23)),
        fours(iban("DE", "n" * 18), "-"),
        fours(iban("NL", "aaaa" + "n" * 10), "\u200b "),
    ]
    _draw.shuffle(out)
    return out


def _ips() -> list[str]:
    four = [f"203.0.113.{_draw.randrange(2, 255)}" for _ in range(12)] + [
        f"198.51.100.{_draw.randrange(2, 255)}" for _ in range(6)
    ]
    four += [
        f"{_draw.choice([23, 81, 94, 146])}.{digits(2)}.{_draw.randrange(256)}.{_draw.randrange(1, 255)}".replace(
            ".0", ".1"
        )
        for _ in range(6)
    ]
    six = [f"2001:db8:{hexes(4)}::{hexes(4)}" for _ in range(8)] + [
        "2001:db8:" + ":".join(hexes(4) for _ in range(6)) for _ in range(6)
    ]
    six += [f"fd{hexes(2)}:{hexes(4)}::{hexes(3)}", f"2001:db8::{hexes(4)}:{hexes(3)}"]
    out = four + six
    _draw.shuffle(out)
    return out


VALUES: dict[str, Callable[[], str]] = {
    "strong": strong,
    "strong2": lambda: some(_ALNUM + "-_!", 14),
    "weak": lambda: _draw.choice(["sommer", "dragon", "letmein", "Monkey", "hunter", "Berlin", "qwerty"]) + digits(_draw.choice([2, 3, 4])),
    "pin": lambda: digits(4),
    "pin6": lambda: digits(6),
    "high24": lambda: some(_ALNUM, 24),
    "high32": lambda: some(_ALNUM, 32),
    "high40": lambda: some(_ALNUM, 40),
    "hex7": lambda: hexes(7),
    "hex16": lambda: hexes(16),
    "hex24": lambda: hexes(24),
    "hex32": lambda: hexes(32),
    "hex40": lambda: hexes(40),
    "hex64": lambda: hexes(64),
    "b64": lambda: some(_ALNUM + "+/", 43) + "=",
    "b64_88": lambda: some(_ALNUM + "+/", 86) + "==",
    "azure": lambda: some(_ALNUM + "+/", 86) + "==",
    "sig": lambda: some(_ALNUM, 43) + "%3D",
    "aws_secret": lambda: some(_ALNUM + "+/", 40),
    "basic": lambda: base64.b64encode(f"ada:{some(_ALNUM, 12)}".encode()).decode(),
    "uuid": uuid,
    "jwt": jwt,
    "jwt_line": lambda: f"⟦{jwt()}⟧",
    "pem": pem,
    "pem_ec": lambda: pem("EC "),
    "pem_plain": lambda: pem(""),
    "pem_ssh": lambda: pem("OPENSSH "),
    "pem_escaped": lambda: pem("").replace("\n", "\\n"),
    "no_card": lambda: no_card("4", 16),
    "no_card_grouped": lambda: grouped(no_card("5" + _draw.choice("12345"), 16), (4, 4, 4, 4), " "),
    "d16_one": lambda: "1" + digits(15),
    "ean": lambda: "40" + digits(11),
    **{f"d{n}": (lambda n=n: _draw.choice("123456789") + digits(n - 1)) for n in (3, 7, 8, 9, 10, 12, 15)},
}  # fmt: skip


class _Fill(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return VALUES[name]()


def lines() -> list[tuple[str, str, str]]:
    """(category, language, marked text)"""
    out: list[tuple[str, str, str]] = []
    values = {"email": _emails(), "phone": _phones(), "ssn": [ssn() for _ in range(34)] + [itin() for _ in range(10)],
              "card": _cards(), "iban": _ibans(), "ip": _ips(), "key": [make() for make in KEYS.values()]}  # fmt: skip
    for category, around in AROUND.items():
        sentences = [line.split("|", 1) for line in around.strip().splitlines()]
        for number in range(max(len(values[category]), len(sentences))):
            language, sentence = sentences[number % len(sentences)]
            value = values[category][number % len(values[category])]
            out.append((category, language, sentence.replace("%", f"⟦{value}⟧")))
    for line in CONTEXT.strip().splitlines():
        language, sentence = line.split("|", 1)
        out.append(("secret", language, sentence.replace("⏎", "\n").format_map(_Fill())))
    for line in TRICKS.strip().splitlines():
        category, language, sentence = line.split("|", 2)
        out.append((category, language, sentence.replace("⏎", "\n")))
    for line in CLEAN.strip().splitlines():
        kind, language, sentence = line.split("|", 2)
        out.append((f"clean/{kind}", language, sentence.format_map(_Fill())))
    return out


def entry(category: str, language: str, marked: str) -> dict[str, object]:
    """Offsets of the marked values in characters; `half` by a hash of the text, so that no hand chose it."""
    text, spans, at = "", [], 0
    while (start := marked.find("⟦", at)) >= 0:
        end = marked.index("⟧", start)
        text += marked[at:start]
        spans.append([len(text), len(text) + end - start - 1])
        text += marked[start + 1 : end]
        at = end + 1
    text += marked[at:]
    half = "held_out" if hashlib.sha256(text.encode()).digest()[0] & 1 else "tune"
    return {"category": category, "language": language, "half": half, "spans": spans, "text": text}


def main() -> None:
    written, seen = [], set()
    for number, line in enumerate(lines(), 1):
        found = entry(*line)
        if found["text"] in seen:
            continue
        seen.add(found["text"])
        encoded = json.dumps({"id": f"m{number:04d}", **found}, ensure_ascii=False)
        if found["category"] in ("key", "secret"):
            # Escaped, so that scanners of repositories do not take made-up keys for real ones.
            encoded = _hidden(encoded)
        written.append(encoded)
    OUT.write_text("\n".join(written) + "\n")
    print(f"{len(written)} lines")


def _hidden(encoded: str) -> str:
    head, mark, text = encoded.partition('"text": "')
    return head + mark + "".join(f"\\u{ord(c):04x}" if c in "_-" else c for c in text)


if __name__ == "__main__":
    main()
