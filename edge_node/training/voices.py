"""Who speaks, and for what: no voice serves both training and measuring.

`train` teaches the model, `dev` chooses between models and fixes thresholds, `test` is only reported.
"""

from typing import Literal, TypeAlias

Split: TypeAlias = Literal["train", "dev", "test"]
Engine: TypeAlias = Literal["kokoro", "espeak", "flite", "festival", "open_jtalk"]

KEPT_OUT = frozenset({
    "af_nova", "af_sky", "am_eric", "am_onyx", "bf_lily", "bm_fable", "em_alex", "hf_beta", "hm_psi", "if_sara",
    "jf_nezumi", "jm_kumo", "zf_xiaoyi", "zm_yunxia", "awb", "rms", "msu_ru_nsh_clunits",
})  # fmt: skip
"""Voices that judge the model from outside this pipeline: never used here, whatever for."""

KOKORO: dict[Split, tuple[str, ...]] = {
    "train": (
        "af_alloy", "af_aoede", "af_bella", "af_heart", "af_jessica", "af_nicole", "af_sarah", "am_adam", "am_echo",
        "am_fenrir", "am_puck", "am_santa", "bf_isabella", "bm_daniel", "bm_george", "em_santa", "ff_siwis", "hf_alpha",
        "jf_gongitsune", "pf_dora", "pm_alex", "pm_santa", "zf_xiaobei", "zf_xiaoxiao", "zm_yunxi",
    ),
    "dev": ("af_kore", "am_liam", "bf_alice", "im_nicola", "jf_alpha", "zm_yunyang"),
    "test": (
        "af_river", "am_michael", "bf_emma", "bm_lewis", "ef_dora", "hm_omega", "jf_tebukuro", "zf_xiaoni",
        "zm_yunjian",
    ),
}  # fmt: skip

LEFT_OUT = frozenset({"pm_alex", "pf_dora"})
"""The Portuguese Alex and Dora are the Spanish ones (their style vectors: cosine 0.95), whom others are measured by.

A plan draws them like everybody else and then leaves their clips out, so that nobody else's clips change.
"""

ESPEAK_LANGUAGES = ("ko", "ko", "ko", "it", "es", "fi", "id", "sw", "tr", "eo", "ro", "sk", "hr", "pt-br", "el", "et")
"""Languages in which a word spelled in Latin letters is read as it is written; Korean, the word's own, weighs most."""

ESPEAK_VARIANTS: dict[Split, tuple[str, ...]] = {
    "train": (
        "", "f1", "f2", "f3", "f5", "m1", "m2", "m3", "m4", "m6", "m8", "klatt", "klatt2", "klatt4", "croak", "adam",
        "Alex", "Alicia", "Andrea", "Andy", "Annie", "antonio", "aunty", "belinda", "benjamin", "boris", "caleb",
        "david", "ed", "edward2", "Gene", "grandma", "grandpa", "Henrique", "Hugo", "iven", "iven3", "Jacky", "john",
        "kaukovalta", "Lee", "linda", "max", "Michael", "Mike", "norbert", "paul", "pedro", "quincy", "rob",
        "RicishayMax",
        "sandro", "shelby", "steph", "steph3", "travis", "Tweaky", "UniRobot", "victor", "zac",
    ),
    "dev": ("f4", "m5", "klatt3", "anikaRobot", "Demonic", "Denis", "Diogo", "marcelo", "steph2", "Storm"),
    "test": ("m7", "klatt5", "AnxiousAndy", "Gene2", "gustave", "iven2", "Marco", "michel", "robert"),
}  # fmt: skip

FLITE: dict[Split, tuple[str, ...]] = {"train": ("slt", "kal", "kal16"), "dev": (), "test": ()}

FESTIVAL: dict[Split, tuple[str, ...]] = {
    "train": (
        "kal_diphone", "cmu_us_slt_arctic_hts", "lp_diphone", "czech_dita", "czech_krb", "czech_ph",
        "suo_fi_lj_diphone",
    ),
    "dev": ("czech_machac", "hy_fi_mv_diphone"),
    "test": ("ked_diphone", "pc_diphone", "upc_ca_ona_hts"),
}  # fmt: skip

OPEN_JTALK: dict[Split, tuple[str, ...]] = {"train": (), "dev": (), "test": ("mei_normal",)}
"""An engine of its own kind that the model never learns from: how it fares is the best hint at unseen speakers."""

FESTIVAL_ENGLISH = frozenset({"kal_diphone", "ked_diphone", "cmu_us_slt_arctic_hts"})
"""Voices that are given phones, because English spelling says little."""

FESTIVAL_LANGUAGES = {
    "kal_diphone": "en-us", "ked_diphone": "en-us", "cmu_us_slt_arctic_hts": "en-us", "lp_diphone": "it",
    "pc_diphone": "it", "czech_dita": "cs", "czech_krb": "cs", "czech_ph": "cs", "czech_machac": "cs",
    "suo_fi_lj_diphone": "fi", "hy_fi_mv_diphone": "fi", "upc_ca_ona_hts": "ca",
}  # fmt: skip
