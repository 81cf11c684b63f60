"""The settings of a run as types; read from YAML, environment variables and options.

``options`` says how a field is spelt on the command line, ``fields`` how it is written as text,
``model`` has the experiment, ``resolve`` puts it together from where it is given, ``find`` looks
for the model. Nothing here starts or measures anything.
"""
