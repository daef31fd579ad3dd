"""Word lists that texts of tasks are made of; no word stands in two lists whose words are answers."""

GIVEN_NAMES = tuple(
    "Ada Alma Amir Anna Arno Aida Boris Bruno Carla Cecil Clara Colin Dana David Diego Edith Elena Elias Emil Emma "
    "Erik Esther Fabio Felix Fiona Frank Freya Gerda Grace Gustav Hanna Harald Helen Henry Hugo Ida Igor Inga Irene "
    "Isaac Ivan Jacob James Jana Jonas Julia Karim Karl Kira Laura Leo Lena Lars Lucy Maria Marco Mila Nadia Nina "
    "Noah Olga Oscar Otto Paul Petra Rita Robert Rosa Ruth Samir Sara Simon Sofia Tanja Theo Thomas Ulla Vera Victor "
    "Walter Yusuf".split()
)
FAMILY_NAMES = tuple(
    "Abel Adler Baker Barnes Becker Bell Berg Bishop Blake Bond Bowen Brook Burke Carter Chase Clay Cole Cook Cross "
    "Dale Davis Dean Decker Drake Ellis Falk Ferris Finch Fisher Flynn Ford Foster Frost Gates Gibson Glass Grant "
    "Hale Hansen Hardy Hart Hayes Holm Hunt Hurst Irwin Jansen Joyce Keller Kent Klein Knight Lamb Lang Larsen Lind "
    "Lloyd Marsh Mason Mills Moore Moss Nash Nolan North Owens Page Palmer Park Perry Pike Poole Price Quinn Reed "
    "Rhodes Ross Sharp Shaw Stone Swift Tate Thorne Vance Wade Walsh Webb West Wolf Wood York".split()
)
ADJECTIVES = tuple(
    "old young tall quiet bright heavy broken empty narrow wide warm cold gentle proud tired wooden dusty smooth early "
    "late plain curious careful patient friendly lonely busy clever golden silver".split()
)
PEOPLE = tuple(
    "baker farmer sailor teacher painter doctor gardener carpenter singer tailor miller shepherd clerk porter weaver "
    "hunter judge merchant soldier neighbour widow student".split()
)
THINGS = tuple(
    "lamp ladder basket bottle mirror carpet table window curtain candle kettle bucket wagon hammer blanket letter "
    "engine anchor barrel drum violin saddle pillow bridge fence stove bench clock".split()
)
PLACES = tuple(
    "market harbour forest valley garden kitchen library station church meadow river mill cellar orchard hill square "
    "tower stable beach village".split()
)
ACTIONS = tuple(
    "carried repaired painted watched sold found moved cleaned forgot borrowed admired measured opened closed wanted "
    "described".split()
)
CITIES = tuple(
    "Oslo Lima Cairo Delhi Milan Tokyo Boston Dublin Vienna Prague Lisbon Athens Warsaw Berlin Geneva Havana Madrid "
    "Moscow Naples Ottawa".split()
)
# A place that a person is said to live beside, and the city or country in which it is known to stand.
LANDMARKS = (
    ("the Eiffel Tower", "Paris"),
    ("the Colosseum", "Rome"),
    ("Big Ben", "London"),
    ("the Statue of Liberty", "New York"),
    ("the Golden Gate Bridge", "San Francisco"),
    ("the Sydney Opera House", "Australia"),
    ("the Taj Mahal", "India"),
    ("the Great Pyramid", "Egypt"),
    ("the Brandenburg Gate", "Germany"),
    ("the Acropolis", "Greece"),
    ("Mount Fuji", "Japan"),
    ("the White House", "Washington"),
    ("the Great Wall", "China"),
    ("Machu Picchu", "Peru"),
)
