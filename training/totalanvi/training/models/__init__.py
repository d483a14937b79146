"""The classes that users touch, put together from what each can do; `totalvi` and `totalanvi` are where to begin."""
