"""Networks, noise schedule and losses: tensors only."""

from relapet.users import name_user

name_user()  # before a module of this package imports MONAI
