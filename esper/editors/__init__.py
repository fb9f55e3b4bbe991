"""What editors read: the language server, the Pygments lexer and the TextMate grammar of `.esp` files.

Knows the language, the operator table and the library, and nothing that compiles or trains. pygls and
Pygments are imported by the modules that serve them, never by this one.
"""
