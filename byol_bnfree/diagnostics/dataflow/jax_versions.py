"""How equations are read in the versions of JAX that we support: 0.10 to 0.12."""

from typing import Any


def scan_operands(params: dict[str, Any], inputs: list) -> tuple[list, list, list]:
    """Return the constants, the carry and the rows of a `scan`.

    Args:
      params: parameters of the equation. JAX 0.12 stores the three groups as `ft_in`, a
        tree of the inputs. Earlier versions store two counts.
      inputs: one entry for each input of the equation.
    """
    if "ft_in" in params:
        return tuple(map(list, params["ft_in"].update(inputs).unpack()))
    consts, carry = params["num_consts"], params["num_consts"] + params["num_carry"]
    return inputs[:consts], inputs[consts:carry], inputs[carry:]
