"""The version of the product: of the package, the command, the services and their API documents."""

VERSION = "0.2.0"
