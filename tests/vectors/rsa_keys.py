"""RSA keys that protect nothing: their primes are fixed, so that vectors are the same each time."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import rsa

_PRIMES = {
    512: (
        "d040e85706108f9c6055e95f6482cbff66d7e33200adcaa47e6aca81c82e5ffb",
        "c9617e2a617566bfef113abe1bbb3b54a2b9f26e2ca8ae9ecdec47b32789534f",
    ),
    1024: (
        "d987f41524129727149d6843d5c1ff912d08367e812d0369c52f3299f9d8b1acf349e13703edbaad"
        "edff1a42512b93f2192d14f42a1e4f5e17dd08ec1f3d4481",
        "d74b9f59550d62d477df3360f35d5e94606f0f8a0b644878ca191675fe71faaf652fd5f29dcf3f94"
        "8569425a5a8cd7a5c126c360e50ba7a5af453831518d8e1d",
    ),
    2048: (
        "d8b185b923423b7bfc26a995ebbe92e46de4494bc48fbc1f18c73f2a5eefdca5f2099abf8f7b3407"
        "9f60aa12f129a27374aaebb85c26c8bbabbbb186b1f7bb456097a380e7e9ee68030fb943e6ca8e8a"
        "6cbf3ced8da3ef342494b4f3be9137ee7b78c085f21e8edd58043ca37e371cf36805463e3ec4fc68"
        "90d2abfc123a4e41",
        "bfe0692d6419736a5b26ff84a894dd2a2acc5872a35e3f899145500082e3e914cb7c800cab9cd89d"
        "f46f52b465e43c4864f5fb29eecac13e44ee755d593da1be8d56d40652f61400f67c8e71fc003a93"
        "f9d2f9cab9760af05ed6be3dafcb77bb31a4ac05259ba93259d75126dbae31162d73d0a942cc083c"
        "1ba499312f014021",
    ),
    3072: (
        "c2ddc93c118b9ceb5c8f56c9c6cf957a3b5f7d0f328232d7dbeaf404b1b0a5612365200b9e48783d"
        "d44ee18106fe53c4db6457325b734f8241e47ada0df98e5b867c9b225173e91223f81e2be4723ad8"
        "ac698adeb72d900596db61490982bcbea9185414d5989f038f9c9899cfdf90449c5881b8c6c2abb1"
        "3fdd62687b8c1c5e6dbe4fd6648e4646f9399e8554c416ded6b6ad25e53213ca8b44521113c6d752"
        "98d98d68f99fb594e147d1874fc0554f56af9b2a843793d191c6f02e89f1cf27",
        "c00fc73564cc2145ccab4821581330cd637adf160b3b302c83a4cc4fe6b4d7a6a6bcde77ccb85698"
        "6da1c1d4aa6321f82f4139cb43f58319aeb12ee9cbb11ae134e5a20b07b2819620594f1f2db7057c"
        "4720b156fb5da525f8f578b247f5880ab45b404b1e7ada4280a8683e64917bf0ad1186511a55ed5e"
        "aecbe1236ac8b3aebf47473b9325fcbe0bb1c3ead1a2fece2637546aa10f4f57679bcf60e72ff88a"
        "4d443bb98535395ee09bf61b32f483b768dca9ca430d11eda389dc459a159667",
    ),
    4096: (
        "e7d0957b99f8b8d6dda5c18c2d081097a601920ec8a8926eb25d1c7620adfcfa0ce842069104b754"
        "b03c2a9204b343047f5d6217c6e8a74a55b1e1e18600fc2675bf58533eaf63f94b5096883557edf9"
        "71dab02c06e0e3027bd64199e5e23d9b6381274930974773eb507b292a9f20888bc06f359a3d5cd0"
        "13fc6f6cb6576140ee4efb56cb9a4799c25c7e9e8af785b90c2881d790c3e4f23f4fa7f574c27a91"
        "f29e6df416b21cb21bd58c760cfe6a71533762cc93d2fb692d068e60c4c5e4a09da1ddf553fc3915"
        "078416310ae76f7e51fec8ce4cde59f1673a5f87e834b5dbd1c1c5d4fe10b14c9410414a6a15ac05"
        "23d806be8753a5fc639592cbf538979b",
        "db31805809c0b9e81337869ed9b058d730bc13cd01cb363055e8ec55a1d128d2646f430d6421f0c2"
        "ac631aab4f33bd27ec0922a15b60a5e5bc0c35044c18249fa0d4454007dfd641b5e48b620a9e2e15"
        "89d2d6dd5e21ec04d2c55a5a770dcdfdc23e5b9d588c5907a956d08b7d21753b936bb234e4a42cfd"
        "cae9a9c3c6069f86433ad61a15841b9deb3f97898a3773f26e2d8e0cd63af8d27d5d215579e3d0d8"
        "89408cfd8417fa568d77e8aed0b3218045cfdd9ef7d901f687445d2858b06f8241f2981787a41738"
        "c2f8c9299951388f81ec66233f74aaf94e2b5fde3ce83a1a7c7a061ba2f29317e63c160f9f7c5106"
        "696eb15de35334001f3a5935aee9bcc7",
    ),
}


def rsa_numbers(bits: int, exponent: int = 65537) -> rsa.RSAPrivateNumbers:
    p, q = (int(text, 16) for text in _PRIMES[bits])
    d = pow(exponent, -1, (p - 1) * (q - 1))
    return rsa.RSAPrivateNumbers(
        p,
        q,
        d,
        rsa.rsa_crt_dmp1(d, p),
        rsa.rsa_crt_dmq1(d, q),
        rsa.rsa_crt_iqmp(p, q),
        rsa.RSAPublicNumbers(exponent, p * q),
    )


def rsa_key(bits: int, exponent: int = 65537) -> rsa.RSAPrivateKey:
    return rsa_numbers(bits, exponent).private_key()
