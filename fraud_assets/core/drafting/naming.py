"""What the names of columns say: their words in several languages, and names that the platform's tables can have.

Which part a column plays belongs to `roles.py`, what its values are to `profiling.py`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from fraud_assets.core.contracts.limits import RESERVED_NAMES, SYSTEM_NAMES


def word_set(text: str) -> frozenset[str]:
    """Words that are written one after the other."""
    return frozenset(text.split())


LONGEST = 40  # characters of a name that is made here
# Letters that Unicode does not take apart.
LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "œ": "oe", "\u0131": "i", "ŋ": "n"}
)

TIME_WORDS = word_set(
    "timestamp datetime time date ts at when created zeit datum zeitpunkt uhrzeit fecha hora data dia dt heure jour "
    "horodatage ora giorno tijd tid instante momento moment unix epoch"
)
TRANSACTION_WORDS = word_set(
    "transaction trans tx txn trx order payment event record claim incident purchase transaccion transacao transazione "
    "transaktion buchung vorgang operacion operacao operation operazione pedido commande ordine bestellung siniestro "
    "sinistre sinistro schaden compra pago paiement pagamento zahlung umsatz invoice"
)
ID_WORDS = word_set(
    "id uid uuid guid key ref reference no nr num number hash identifier identificador identifiant kennung nummer "
    "numero numer codigo cod referencia referenz clave chave token iban"
)
_FIRST_ID_WORDS = word_set("id uid uuid guid identificador identifiant")
_OWNED = word_set("policy session contract branch agent employee household bank provider")
_LINKS = word_set("de del da do du des der die das of the la le el il lo los las les d")

BIRTH_WORDS = word_set("birth dob birthday birthdate born geburt geburtsdatum nacimiento nascimento naissance")
EXPIRY_WORDS = word_set(
    "expiry expiration expires expire exp valid validity until end due ablauf gueltig gultig vencimiento validade "
    "validez scadenza expira"
)
START_WORDS = word_set(
    "signup registered registration opened open joined enrolled start begin since issue issued activation onboarding "
    "bind effective alta cadastro inscription eroffnung"
)
CHANGE_WORDS = word_set("updated modified loaded ingested exported processed changed inserted extract etl")
REPORT_WORDS = word_set(
    "label labels labelled labeled report reported chargeback dispute disputed known confirmed confirmation flagged "
    "detected discovered gemeldet reportado denuncia signale contracargo devolucion estorno litige ruckbuchung "
    "rueckbuchung erstattung reklamation reclamo reclamacion contestation"
)
# What is known only when somebody has looked into it.
AFTER_WORDS = word_set(
    "chargeback chargebacks refund refunded dispute disputed resolution resolved resolve investigation investigated "
    "investigator recovered recovery settled settlement closed closure closing verdict writeoff contracargo "
    "devolucion reembolso erstattung ruckbuchung rueckbuchung estorno remboursement litige abgeschlossen"
)
# What counts something of the past is known at the event, whatever it counts.
PAST_WORDS = word_set(
    "past prior previous prev last history historical count num number n nb ever rate ago since year month months"
)
SCORE_WORDS = word_set(
    "score scores flagged predicted prediction probability prob proba risk scenario rule rules alert suspicion "
    "suspicious suspected anomaly model riesgo risiko risque"
)
GENUINE_NAMES = word_set("legit legitimate genuine legitimo legitima legitime echt notfraud nonfraud")
LABEL_NAMES = word_set(
    "label labels chargeback class target outcome flag clase classe klasse etiqueta rotulo cible alvo ziel zielwert "
    "gb bad"
)
LABEL_FILLERS = word_set("is event tx transaction y the flag final true has was")
FRAUD_STEMS = (
    "fraud",
    "betrug",
    "frode",
    "estafa",
    "oszust",
    "bedrog",
    "欺诈",
    "詐欺",
    "\u043c\u043e\u0448\u0435\u043d",
)

AMOUNT_WORDS = (
    "amount", "amt", "betrag", "montant", "importe", "monto", "quantia", "importo", "bedrag", "belopp", "kwota",
    "valor", "price", "preis", "precio", "preco", "prix", "prezzo", "umsatz", "total", "value", "sum", "summe",
    "金额", "金額", "\u0441\u0443\u043c\u043c\u0430",
)  # fmt: skip
DERIVED_WORDS = word_set(
    "balance old new mean avg average max min std count ratio tax fee rate score lag diff change limit saldo discount"
)
MINOR_UNITS = word_set("cent cents pence minor centavos centimes centimos")
CODE_WORDS = word_set(
    "zip zipcode postal postcode postalcode plz cep bin mcc sic naics code cod codigo kode region_code  bic swift cap "
    "codepostal areacode"
)
QUANTITY_WORDS = word_set(
    "count sum avg mean age days hours months years rate ratio distance dist velocity number num n total amount "
    "balance income lat latitude lng lon long longitude std max min score 4w 8w 1m 6h 24h"
)

ENTITIES: dict[str, frozenset[str]] = {
    "customer_id": word_set(
        "customer cust client cliente kunde kunden user usuario utilisateur utente member consumer payer nameorig "
        "klant klient titular comprador buyer acheteur policyholder holder sender cardholder karteninhaber kundin "
        "usager person"
    ),
    "card_id": word_set(
        "card cc pan creditcard karte karten kreditkarte tarjeta cartao carte carta kaart ccnum cardnum"
    ),
    "account_id": word_set("account acct iban konto cuenta conta compte conto rekening accountnumber"),
    "email_address": word_set(
        "email emailaddress emailaddr mail mailaddress emailhash correo correoelectronico courriel epost"
    ),
    "phone_number": word_set("phone mobile telephone tel telefon telefono telefone celular handy movil phonehash"),
    "device_id": word_set("device devicefingerprint fingerprint dispositivo appareil geraet gerat imei deviceinfo"),
    "ip_address": word_set("ip ipaddress ipaddr ipv4 ipv6 ipv4address ipv6address ipadresse adresseip"),
    "terminal_id": word_set("terminal pos atm terminale kasse tpv cajero terminalpos"),
    "merchant_id": word_set(
        "merchant merchantname seller sellername shop vendor vendorname namedest haendler handler comercio negocio "
        "tienda loja lojista estabelecimento establecimiento commercant marchand magasin boutique vendeur vendedor "
        "negozio esercente winkel beneficiary beneficiario payee recipient store storename shopname"
    ),
}
# Whose card, address or device it is, says nothing about what it is.
_WHOSE = word_set(
    "client remote source src user customer cust transaction tx trans billing shipping event order login buyer sender "
    "origin cardholder card payment credit debit cliente usuario kunden bank contact my current"
)


def folded(text: str) -> str:
    """Text without accents, in lower case.

    >>> folded("Händler"), folded("Transação"), folded("Straße")
    ('handler', 'transacao', 'strasse')
    """
    apart = unicodedata.normalize("NFKD", text.lower().translate(LETTERS))
    return "".join(letter for letter in apart if not unicodedata.combining(letter))


def name_words(name: str) -> list[str]:
    """The words of a column's name, in lower case and without accents.

    >>> name_words("customerId"), name_words("CUSTOMER_ID"), name_words("TransactionIPAddress")
    (['customer', 'id'], ['customer', 'id'], ['transaction', 'ip', 'address'])
    """
    parts = re.sub(r"IP(?=ad)", "IP ", unicodedata.normalize("NFC", name))
    parts = re.sub(r"([a-z])([A-Z])", r"\1 \2", parts)
    parts = re.sub(r"([A-Z])([A-Z][a-z])", r"\1 \2", parts)
    return [word for word in re.split(r"[\W_]+", folded(parts)) if word]


def has_fraud_word(words: Iterable[str]) -> bool:
    """Whether a name speaks of fraud, in one of several languages.

    >>> has_fraud_word(["is", "fraudulent"]), has_fraud_word(["betrugsfall"]), has_fraud_word(["amount"])
    (True, True, False)
    """
    return any(stem in word for word in words for stem in FRAUD_STEMS)


def entity_kind(words: Sequence[str]) -> str | None:
    """The platform's name of what a column's name says that it identifies; None for anything else.

    >>> entity_kind(["id", "cliente"]), entity_kind(["cc", "num"]), entity_kind(["customer", "email"])
    ('customer_id', 'card_id', 'email_address')
    >>> entity_kind(["card", "type"]), entity_kind(["customer", "age"])
    (None, None)
    """
    bare = [word for word in words if word not in ID_WORDS | _LINKS | {"n"} and not word.isdigit()] or list(words)
    joined = "".join(bare)
    for name, vocabulary in ENTITIES.items():
        if joined in vocabulary or re.sub(r"(?<=[a-z])(id|no|nr|\d)$", "", joined) in vocabulary:
            return name
    for start in range(1, len(bare)):
        if set(bare[:start]) <= _WHOSE:
            for name, vocabulary in ENTITIES.items():
                if "".join(bare[start:]) in vocabulary:
                    return name
    return None


def says_identifier(words: Sequence[str]) -> bool:
    """Whether a name says that its values identify something.

    >>> says_identifier(["branch", "id"]), says_identifier(["num", "injuries"]), says_identifier(["id", "02"])
    (True, False, False)
    """
    if not words or any(word.isdigit() for word in words):
        return False
    if words[-1] in ID_WORDS and len(words) > 1:
        return True
    if words[0] in _FIRST_ID_WORDS:
        return True
    if words[0] in ID_WORDS and (set(words[1:]) & TRANSACTION_WORDS or entity_kind(words[1:])):
        return True
    if "".join(words) == "iban":
        return True
    stem = "".join(words).removesuffix("id")
    return stem != "".join(words) and (entity_kind([stem]) is not None or stem in TRANSACTION_WORDS | _OWNED)


def says_code(words: Sequence[str]) -> bool:
    """Whether a name says that its numbers are codes, of which no mean can be taken.

    >>> says_code(["billing", "zip"]), says_code(["zip", "count", "4w"])
    (True, False)
    """
    return bool(set(words) & CODE_WORDS) and not set(words) & QUANTITY_WORDS


def free_name(name: str, taken: Iterable[str], otherwise: str = "attribute") -> str:
    """A name for the platform's tables that is not taken yet: of two that collide, the second gets a number.

    >>> free_name("Händler-Nr", {"handler_nr"}), free_name("Month", set()), free_name("金额", {"attribute_1"})
    ('handler_nr_2', 'month_2', 'attribute_2')
    """
    taken = {one.lower() for one in taken} | RESERVED_NAMES | SYSTEM_NAMES
    base = slug(name)
    if not base:
        number = 1
        while f"{otherwise}_{number}" in taken:
            number += 1
        return f"{otherwise}_{number}"
    found, number = base, 1
    while found in taken:
        number += 1
        found = f"{base[: LONGEST - 4]}_{number}"
    return found


def slug(name: str) -> str:
    """A name in letters, digits and underscores, at most `LONGEST` of them; empty where no letter can be written so.

    >>> slug("Größe (cm)"), slug("9"), slug("金额")
    ('grosse_cm', 'column_9', '')
    """
    found = re.sub(r"\W+", "_", "_".join(name_words(name)), flags=re.ASCII).strip("_")[:LONGEST].rstrip("_")
    if not found:
        return ""
    return found if re.match(r"[a-z]", found) else f"column_{found}"[:LONGEST].rstrip("_")
