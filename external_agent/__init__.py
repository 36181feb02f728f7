"""The Internet side: answers ACME challenges, obtains certificates, seals them, serves pullers."""
