"""Plots about animals, great and small."""

from __future__ import annotations

from storyteller.data.bundled.story_templates import TemplateFiller
from storyteller.data.bundled.word_banks import BIRDS, FARMYARD, WOODLAND, rows


def hurt_wing(t: TemplateFiller) -> None:
    """A bird with a hurt wing is cared for, and then has to be let go."""
    t.child("h")
    t.row("bird", BIRDS)
    t.let(name="[Pip|Dot|Feather|Crumb|Skye|Bean|Whistle]", box="[shoe box|hat box|basket|old drawer]")
    t.creature("b", "{bird}", "it")
    t.begin(
        "[loved animals|knew the names of all the birds|put out crumbs for the birds every day]",
        '"Crumbs, birds, crumbs!" {h} called every morning, and {h.he} threw [bread|seeds] out of the window.',
    )
    t.say(
        "{@day}, {h} found a {bird} [in the grass|under the hedge|on the path]. It had {bird.look}, and one of its "
        'wings hung down. It tried to fly and [fell over|could not]. "{bird.song}," it said, very softly.',
        "Under the [rose bush|apple tree] sat a small {bird} with {bird.look}. It did not fly away when {h} came "
        'near. "Are you hurt?" {h} {@whispered}. The bird\'s heart was beating fast, and one wing was bent.',
    )
    t.say(
        "{h} took off {h.his} [cap|scarf] and wrapped the bird in it. {h.his} {mom} called the vet, who tied the "
        'wing with a [bit of tape|thin bandage]. "It needs [rest, water, and quiet|quiet and good food|time and '
        'rest]," said the vet. {h} made a bed of [soft grass|cotton|hay] in a {box} and called the bird {name}.',
        '{h} ran to get {h.his} {dad}. Together they put the bird in a {box} with [soft rags|moss]. "We can feed '
        'it, but we must not touch it too much," said {h.his} {dad}. "It is wild." {h} gave it a name, {name}, '
        "and a [bottle cap|spoon] full of water.",
    )
    t.aside(
        "Every morning {h} brought seeds and [mealworms|bits of egg]. <The worms were not so nice, but {h} was brave.>",
        "At first {name} would not eat. Then {h} sat very still and held out a seed. Peck! It was gone.",
        "{h} told {name} about school, and {name} tilted its head and listened.",
    )
    t.say(
        "After [two|three] weeks, {name} hopped out of the {box}, flapped, and flew to the top of the "
        '[curtain|clock]. "You can fly!" {@cried} {h}. Then {h.he} became quiet. {h.he} knew what that meant.',
        "Day by day the wing got stronger. One morning {name} flew all around the room and [bumped into the "
        'lamp|sat down on {h}\'s head]. "It is time to let {name} go," said {h.his} {mom}. {h} did not want to '
        "hear it.",
    )
    t.aside(
        '"Can\'t {name} stay with me?" {h.he} asked. "Would you like to live in a {box}, away from the sky?" '
        "asked {h.his} {dad}. {h} shook {h.his} head.",
        "That night {h.he} thought and thought. A bird needs [the wind|the sky|the trees]. A bird needs [other "
        "birds|to be free].",
    )
    t.say(
        '{h} carried the {box} to the garden and opened the lid. {name} looked at the sky, and then at {h}. "Go '
        'on," {h} said. Whirr! The {bird} was in the air, a small dot over the trees. {h} waved with one hand and '
        "wiped {h.his} eyes with the other.",
        "[They opened the window wide|{h} opened the window wide|They carried {name} to the open window]. {name} "
        'sat on the sill for a moment. "{bird.song}!" Then there was only [blue sky|sky|the empty window]. {h} '
        "felt sad and glad at the same time.",
    )
    t.aside(
        "The next spring, a {bird} built its nest [over the front door|in the apple tree] and was not afraid of "
        "{h} at all.",
        "And some mornings, when {h} woke up, a {bird} sat on the window sill and tapped at the glass.",
        "{h} kept one feather, and it still lies in the {box}.",
    )


def honey_pot(t: TemplateFiller) -> None:
    """Two friends, one pot, and a quarrel that empties it."""
    t.animal("h", WOODLAND[:9])
    t.animal("f", WOODLAND[:9])
    t.row(
        "pot",
        rows(
            """
            pot; what; place; taste
            pot; honey; under a bee tree; sweet and golden
            jar; plum jam; beside an empty cart; thick and sweet
            barrel; apples; where the road bends; crisp and red
            basket; cherries; next to a fence; dark and juicy
            crock; maple syrup; in a hut where nobody lived any more; sweet as candy
            """
        ),
    )
    t.begin(
        "[was good friends with {f}, a {f.kind}|lived near {f}, a {f.kind}|shared a path with a {f.kind} named {f}]"
    )
    t.say(
        '{@fine}, they went for a walk and found a {pot} full of {pot.what} {pot.place}. "I saw it first!" said '
        '{h}. "But I smelled it first!" said {f}. Each of them put [two paws|a paw] on the {pot} and did not let '
        "go.",
        "{@day}, {h} and {f} both came to the same spot at the same time. There, {pot.place}, stood a {pot} of "
        '{pot.what}. "Mine!" said {h}. "Mine!" said {f}. They had never been {@angry} with each other before.',
    )
    t.aside(
        '"I am bigger, so I need more," said one. "I am smaller, so I must grow," said the other.',
        "They pulled to the left. They pulled to the right. <Some of it spilled on the ground.>",
        '"Let go!" "You let go!" Birds flew up from the trees.',
    )
    end = t.one_of(("judge", "spill", "hide"))
    if end == "judge":
        t.creature("n", "[crow|weasel|magpie]", "he")
        t.say(
            'A clever {n.kind} heard the noise. "I will be the judge," he said. He made two heaps. "Oh, this '
            'one is bigger," he said and took a bite from it. "Now that one is bigger." He took a bite from the '
            "other one. Bite by bite the heaps got smaller.",
        )
        t.say(
            '{h} looked at {f}. "Stop!" they both said. But there were only two small bits left. "That is my '
            'pay," said {n}, and he licked his lips and was gone.',
        )
        t.say(
            'They sat down and ate the two small bits. "If we had shared, our tummies would be full now," said '
            '{h}. "Next time, you first," said {f}. "No, you first," said {h}, and they had to laugh.',
            '"It was our own fault," {f} said. {h} nodded. From that day on, they shared everything in the '
            "middle, and they never asked a {n.kind} to help.",
        )
    elif end == "spill":
        t.say(
            "Then, crash! The {pot} fell over and rolled down the hill. Bump, bump, bump, splash! It fell into the "
            "river and was gone. They stood and stared. The {pot.what} had been {pot.taste}, and nobody had even "
            "tasted it.",
            "They pulled so hard that the {pot} broke in two, and all the {pot.what} went into the [mud|stream]. "
            "It was very quiet. <Only the flies were {@glad}.>",
        )
        t.say(
            '"I am sorry," said {h} after a while. "I only wanted it because you wanted it." "Me too," said '
            '{f}. {h} remembered that {h.he} had {h.food} at home. "Come with me," said {h}. "It is not '
            '{pot.what}, but there is enough for two."',
            '{f} began to cry. "Now I have no {pot.what} and no friend," {f.he} said. {h} put a paw around '
            '{f.him}. "You have a friend," said {h}. "The {pot.what} was only {pot.what}."',
        )
        t.say(
            "They walked home side by side, sharing one big leaf as an umbrella, though it did not rain.",
            "In the evening they sat in front of the door and watched the moon come up. It was as round as a "
            "{pot}, and they shared it.",
        )
    else:
        t.say(
            'In the end they shut the {pot} and hid it in a hole. "Nobody eats any of it until we agree," said '
            "{f}. That night {h} could not sleep. {h.he} crept out to eat just a little. But when {h} came to the "
            "hole, there was {f}, creeping up from the other side!",
        )
        t.say(
            'They both turned red. "I wanted to see if it was safe," said {h}. "I wanted that too," said {f}. '
            "Then they looked at the two spoons they were holding, and they laughed until the owls complained.",
        )
        t.say(
            "So they sat down in the moonlight and ate together, one spoon for {h} and one spoon for {f}, until "
            "they could see the bottom of the {pot}. It was {pot.taste}.",
            'They shared it by the light of the moon. "It is better like this," said {f} with a full mouth. '
            '"Alone, there is nobody to say yum to," said {h}.',
        )


def first_flight(t: TemplateFiller) -> None:
    """A young bird does not dare to fly."""
    t.row("bird", rows("""
            bird; nest
            owl; in a hole in an old oak
            robin; in the ivy on the wall
            swallow; under the roof of the barn
            eagle; on a high cliff
            sparrow; in the corner of a roof
            stork; on top of a chimney
            duck; in a hole high up in a willow
            """))  # fmt: skip
    kind = t.slots["bird"]
    t.animal(
        "h",
        (
            {
                "kind": f"baby {kind}",
                "look": "[soft gray down|a beak that was always open|wings that seemed too big]",
                "home": t.slots["bird.nest"],
                "food": "[worms|flies|seeds]",
                "went": "flew",
            },
        ),
    )
    t.animal("f", ({"kind": kind, "look": "smooth feathers"},))
    t.begin(
        "[was the smallest in the nest|liked the warm nest|was the last one left in the nest]",
        '"Come on, {h}! It is easy!" But {h}, a baby {bird}, stayed in the nest.',
        trait="sweet|careful|timid|gentle",
    )
    t.go_on(
        "{f}, {h.his} {f.sib}, could fly already.",
        "{h.his} {f.sib} {f} had been flying for a week.",
    )
    t.say(
        '{@fine}, {h.his} mother said, "Today is your day." {h} hopped to the edge and looked down. The ground '
        'was [far, far away|a long way down|so far away that the cows looked like [beetles|ants|beans]]. "Maybe '
        'tomorrow," said {h}. <"My wings are cold.">',
        'Every day {h} had a new reason. "It is too [windy|warm|bright]," {h} said on Monday. "It is not windy '
        'enough," {h.he} said on Tuesday. "My [left|right] wing [is tired|itches]," {h.he} said on Wednesday. '
        "<The truth was that {h.he} was {@afraid}.>",
    )
    t.aside(
        '"What if I fall?" {h} asked. "What if you fly?" said {h.his} mother.',
        '"Flap and jump," said {f}. "Jump and flap." {h} flapped, but {h.he} did not jump.',
        '{f} flew circles over the nest. "You can see the whole [valley|village|lake] from up here!" {f} called.',
    )
    end = t.one_of(("rescue", "food", "wind"))
    if end == "rescue":
        t.say(
            "Then {h} heard a cry. {f} had flown too close to the thorns, and one foot was caught. A [cat|fox] was "
            'sneaking through the grass! Mother was far away. "{f}!" {@cried} {h}. There was no time to [be '
            "afraid|think|wait]. {h} spread {h.his} wings and jumped.",
        )
        t.say(
            "Flap, flap, flap! {h} screeched as loudly as {h.he} could and flew right past the hunter's nose. It "
            "jumped back in surprise. {f} pulled and pulled, and the foot came free. Together they shot up into "
            "the sky.",
        )
        t.say(
            'On the branch they caught their breath. "{h}," said {f}, "do you know what you just did?" {h} '
            'looked down at the nest, far below. "Oh," said {h}. "I flew!" {^h.he} had been too busy to notice.',
        )
    elif end == "food":
        t.say(
            "The next morning {h.his} mother did not put the food into {h.his} beak. She laid it on a branch, one "
            "hop away. {h} was [hungry|very hungry]. Hop! {h.he} ate it. Then she laid the next bite on a branch a "
            "bit farther away. Hop, flap! After that came another one, farther still.",
        )
        t.say(
            "Hop, flap, flap, flap. {h} thought only of {h.food}. Suddenly there was no branch under {h.his} feet "
            'at all. There was only [air|sky]. "I am falling!" {@cried} {h}. "No," said {h.his} mother beside '
            '{h.him}, "look at your wings."',
        )
        t.say(
            "{h} looked. {h.his} wings were going up and down, up and down, all by themselves. {h.he} flew once "
            "around the tree, and then once around the [barn|church tower|hill], and {h.he} only came home when it "
            "was dark.",
        )
    else:
        t.say(
            "That night a [strong|wild] wind began to blow. The nest [shook|rocked|swayed]. Crack! One side of the "
            "nest broke off, and {h} was thrown into the dark. {h.he} shut {h.his} eyes, opened {h.his} wings, and "
            "waited for the bump.",
        )
        t.say(
            "But there was no bump. {h} opened one eye. The wind was [holding|carrying] {h.him} like a [big|warm], "
            "soft hand. {h} moved one wing and turned to the left. {h} moved the other and turned to the right. "
            '"{@wow}!" said {h}[| to the wind].',
        )
        t.say(
            "When the sun rose, the family found {h} on the [highest branch|weather vane], looking out over the "
            'land. "You were right," {h.he} told {f}. "It is easy. Only the first step is hard."',
        )
    t.go_on(
        "",
        'Now it is {h} who tells the little ones, "What if you fly?"',
        "<That evening the nest was empty, and the sky was full.>",
    )


def sleepless_owl(t: TemplateFiller) -> None:
    """Somebody cannot sleep, everybody gives advice, and the right thing is very small."""
    t.animal(
        "h",
        rows(
            """
            kind; look; home; food; went
            owl; big, round eyes; in a hollow oak; mice; flew
            bear; thick, dark fur; in a cave; honey; padded
            bat; ears like two leaves; in a church tower; moths; flew
            dormouse; a fluffy tail; in a nest of moss; hazelnuts; scurried
            badger; a striped face; in a deep den; roots; trotted
            """
        ),
    )
    t.slots["bed"] = "morning" if t.slots["h.kind"] in ("owl", "bat") else "evening"
    t.animal("a", WOODLAND[:3])
    t.animal("b", WOODLAND[5:9] if t.slots["h.kind"] != "badger" else WOODLAND[7:10])
    t.begin(
        "[could not sleep|was always tired, but could not fall asleep|had not slept for three days]",
        trait="kind|sweet|gentle|good|friendly|serious",
    )
    t.say(
        "Every {bed} {h} went to bed and closed {h.his} eyes. And every {bed} they popped open again. {h.he} "
        "turned to the left, and {h.he} turned to the right. <{h.he} counted leaves, and {h.he} counted toes.> "
        '[Nothing helped|It did not help|It was no good]. "I am so tired," {h.he} said.',
        "{h} lay in {h.his} bed and listened. {h.he} heard [a drop of water|a beetle walking by|the wind in the "
        'chimney]. {h.he} got up, drank some water, and lay down again. Still {h.he} was wide awake. <"It is not '
        'fair," {h} groaned. "Everybody else is snoring.">',
    )
    t.say(
        '{h} went to see {a} the {a.kind}. "[Eat something|Have some {a.food}]," said {a}. "I always sleep when '
        'my tummy is full." So {h} ate and ate. Now {h.he} was awake and had a tummy ache. Then {h} went to {b} '
        'the {b.kind}. "[Run around|Dance] until you are tired," said {b}. {h} did that until {h.his} legs '
        "shook, but {h.his} eyes stayed open.",
        '"You must [count sheep|sing to yourself]," said {a}, a {a.kind}. {h} tried it, but {h.he} [lost count '
        'at ninety|woke up the whole wood]. "[You need a harder bed," said {b}, a {b.kind}. {h} lay down on '
        'stones, and they hurt.|You need a softer bed," said {b}, a {b.kind}. {h} tried feathers, and they made '
        "{h.him} sneeze.]",
    )
    t.row(
        "w",
        rows(
            """
            why; cure
            a worry; {a} sat down beside {h.him} and asked, "What do you think about, when you lie awake?" Nobody had asked that before. "I think about a mean word I said to {b}," said {h}. "I never said that I was sorry." So they went to {b} that very minute, and {h} said it. "I forgot that long ago," said {b} and gave {h.him} a hug.
            being alone; A {@tiny} moth with a torn wing landed by {h.his} bed. "May I rest here?" it asked. "I am afraid to be alone." "So am I," said {h}, and was surprised to hear it. They told each other stories, one and then another, and the second story was never finished.
            no story; {b} scratched {b.his} head. "Did anybody tell you a bedtime story?" {b.he} asked. Nobody ever had. So {b} began, "Once upon a time, there was a very small cloud." By the time the cloud got home, {h} was breathing slowly and deeply.
            the light; {a} came to see {h.his} bed. "There is a hole in your wall," said {a}, "and the light comes right through it!" {h} had never noticed. They stopped up the hole with moss, and it became as dark and cozy as the inside of a pocket.
            trying too hard; "Stop trying," said {b} at last. "Stay awake as long as you can, and look at the sky with me." {h} lay down on the grass. {h.he} tried very hard to stay awake. {h.he} saw one cloud shaped like a boat, and one like a pillow, and then {h.he} saw nothing more.
            """
        ),
    )
    t.say("{w.cure}")
    t.say(
        '"Shh," whispered {a}. {h} was asleep, with a smile on {h.his} face, and {h.he} slept for [two days|a '
        "day and a half].",
        "And then a new sound was heard in the wood. Chrr, chrr, chrr. It was {h}, and {h.he} was snoring.",
        "{h} slept so well that {h.he} almost missed breakfast. It was the best sleep of {h.his} life.",
    )


def slow_one(t: TemplateFiller) -> None:
    """Somebody slow is laughed at, until slowness is just what is needed."""
    t.animal(
        "h",
        rows(
            """
            kind; look; home; food; went
            turtle; a hard, round shell; by a slow, brown river; lettuce; plodded
            snail; a house like a little bun; under a cabbage leaf; leaves; crept
            tortoise; wrinkled legs and kind, black eyes; in a sunny garden; clover; plodded
            caterpillar; green and yellow stripes; on a rose bush; leaves; crawled
            """
        ),
    )
    t.animal("a", WOODLAND[:5])
    t.begin(
        "[was the slowest of all the animals|took a whole morning to cross the path|never hurried]",
        trait="slow|quiet|patient|calm|careful",
    )
    t.say(
        'The others laughed. "When {h} goes to a party," said {a} the {a.kind}, "it is over before {h.he} gets '
        'there!" {h} only smiled, but it hurt inside. <{h.he} would have liked to be quick, just once.>',
        '"Hurry up, {h}!" the others always called. {a}, a quick {a.kind}, could run around {h} [ten|twenty] '
        'times and not be tired. "What do you do all day?" asked {a}. "I look at things," said {h}.',
    )
    end = t.one_of(("path", "ring", "bridge"))
    if end == "path":
        t.say(
            "{@day}, a thick fog came up and covered the wood. Nobody could see a thing. {a} and the others had "
            "run out to play, and now they were lost. They ran left, and they ran right, and they bumped into "
            'trees. "Help!" they cried.',
        )
        t.say(
            "{h} heard them. {h.he} had passed along that path so slowly, and so often, that {h.he} knew every "
            'stone and every root. "Follow my voice," called {h}. "Now comes the round stone. Now comes the '
            'root like a snake. Slowly, slowly!" One behind the other they followed {h.him}, all the way home.',
        )
    elif end == "ring":
        t.let(lost="[a silver bell|grandmother's ring|the key to the nut store|a golden bead]")
        t.say(
            "{@day}, {a} came running in tears. {a.he} had lost {lost} somewhere in the meadow. Everyone raced up "
            "and down to look for it. They ran so fast that they trampled the grass, and they found nothing at all.",
        )
        t.say(
            "{h} came along, much later. {h.he} looked under one leaf, and then under the next. {h.he} looked at "
            "every pebble. The sun went down, and the moon came up. And there, beneath a clover leaf, something "
            'was shining. "I have it," said {h}.',
        )
    else:
        t.say(
            '{@day}, it rained so much that the stream became wild. There was only one thin branch across it. "I '
            'will jump over," said {a} and ran. But the branch shook, and {a} slipped. Now {a.he} hung on over '
            "the water and did not dare to move.",
        )
        t.say(
            '"Do not look down," said {h}. {h.he} crept out on the branch, so slowly that it did not shake at '
            'all. "Move one foot when I do," said {h}. "Now wait. Now the next." Little by little they came to '
            "the other side.",
        )
    t.say(
        '"I laughed at you," said {a}, "and I am sorry." "That is all right," said {h}. "Come for a walk '
        'with me, and I will show you what you missed." They needed a whole day to get to the gate, and {a} had '
        "never seen so much.",
        "Nobody laughed at {h} after that. And when there was a party, they [began it an hour later|all waited at "
        "the gate until {h} was there].",
        '{a} thought about it for a long time. The next morning {a.he} walked beside {h}, step by step. "What are '
        'we doing?" {a.he} asked. "We are looking at things," said {h}.',
    )


def false_alarm(t: TemplateFiller) -> None:
    """Somebody cries for help for fun, too often."""
    if t.chance(0.5):
        t.child("h")
        t.let(post="looked after the [sheep|goats|geese]", friends="the people of the village")
    else:
        t.animal(
            "h",
            rows(
                """
                kind; look; home; food; went
                duckling; fluffy yellow feathers; by a pond; pondweed; waddled
                lamb; curly white wool; on a green hill; daisies; skipped
                piglet; a curly tail; in a pen by the barn; corn; trotted
                bunny; floppy ears; at the edge of a field; clover; hopped
                monkey; a long tail; in a banana tree; bananas; swung
                """
            ),
        )
        t.let(post="liked to play tricks", friends="the other animals")
    t.row(
        "d",
        rows(
            """
            cry; danger; drops
            Help! A wolf; a big gray wolf; came out of the trees, licking its lips
            Help! A fox; a hungry fox; came slinking through the grass
            Fire! Fire; a real fire; began to burn in the dry grass
            Help! I am falling in the mud hole; a deep mud hole; sucked at {h.his} feet
            Bees! Run; a cloud of angry bees; came buzzing out of a hole
            """
        ),
    )
    t.begin(
        "[{post}|{post}, and was often bored]",
        trait="bored|funny|lively|cheeky|playful|wild",
    )
    t.say(
        '{@day}, there was nothing to do. {h} had an idea. "{d.cry}!" {h.he} {@cried}. {^friends} dropped '
        'everything and came running. "Where? Where?" they asked. {h} rolled on the ground and {@laughed}. "It '
        'was only a joke!"',
        '"What a dull day," {h} thought. Then {h.he} {@smiled}. "{d.cry}!" {h.he} shouted as loudly as {h.he} '
        "could. {^friends} came with sticks and buckets. There was [nothing there|nothing there at all|only "
        "grass|only the wind]. {h} laughed and laughed.",
    )
    t.aside(
        'They shook their heads and went back. "That was not funny[|, {h}| at all]," they said.',
        '"You gave us a fright," they said. ',
    )
    t.say(
        'The next day {h} did it again. "{d.cry}!" Again they [came|ran up], [out of breath|red in the face|as '
        'fast as they could], and again there was nothing. Now they were {@angry}. "One day you will be sorry," '
        "[they said|said one|they told {h}].",
        "It was so much fun that {h.he} did it again after lunch, and once more before supper. Each time fewer "
        "came, and each time they were cross.",
    )
    t.say(
        "A few days later {h} was alone on the [hill|meadow]. Then it [happened|really happened]. {^d.danger} "
        '{d.drops}. "{d.cry}!" {@cried} {h}. <{@heart}> Down below they heard it. "It is only {h} again," they '
        "said, and they went on with their work.",
        "And then, one [evening|morning|afternoon|gray day], it was [true|real]. {^d.danger} {d.drops}! {h} called "
        "and called, but nobody came. [They had stopped believing {h.him}|Nobody believed {h} now|They thought it "
        "was one more joke].",
    )
    if t.chance(0.5):
        t.creature("n", "old [donkey|dog|shepherd dog|goose|mule]", "")
        t.say(
            'Only {n} lifted {n.his} head. "This time {h.his} voice is different," {n.he} thought. "This time '
            'it shakes." {^n.he} ran up as fast as {n.his} old legs would go, made a terrible noise, and got {h} '
            "to safety just in time.",
        )
        t.say(
            '{h} trembled all over. "Why did you come?" {h.he} asked. "Better to run for nothing ten times," '
            'said {n}, "than to stay home once too often." {h} never played that joke again.',
            '"{@thanks}," {h} {@whispered}. Then {h.he} went to {friends} and said that {h.he} was sorry, to '
            "every single one. It took a long time until they believed {h.him} again. But {h.he} had learned to "
            "wait.",
        )
    else:
        t.say(
            "{h} ran. {h.he} ran through thorns and over stones, and {h.he} only just got away. When {h.he} came "
            'home, {h.he} was scratched and muddy and very small inside. "Why did you not come?" {h.he} cried. '
            '"Because we could not know," they answered, "if your words were real."',
        )
        t.say(
            '{h} thought about that all night. In the morning {h.he} said, "I am sorry. From now on, when I '
            'shout, it will be true." And {h.he} kept {h.his} word.',
            "After that, {h} found a better way to be funny. {h.he} stood on {h.his} head and sang, and everyone "
            "came running for that, every time.",
        )


def stubborn_donkey(t: TemplateFiller) -> None:
    """A donkey will not move; pulling does not help; listening does."""
    t.child("h")
    t.let(
        donkey="[Gus|Mabel|Old Jenny|Bartholomew|Clementine|Hector|Dulcie]",
        load="[pumpkins|apples|milk cans|firewood|cabbages|clay pots]",
    )
    t.begin(
        "[helped {h.his} {dad} on the farm|had a donkey called {donkey}|lived with a donkey called {donkey}]",
        "Everyone in the village knew {donkey} the donkey, and everyone knew {h}, the {h.kind} who [rode on its "
        "back|brushed it every day].",
        home="on a farm|in a village at the foot of a mountain|on a small farm by a river|in a stone house among "
        "olive trees",
    )
    t.say(
        "{@fine}, {h} and {h.his} {dad} loaded {load} on the cart, and {donkey} the donkey pulled it to the "
        "market. All went well as far as the old [bridge|mill|crossroads]. There {donkey} stopped. {h.his} {dad} "
        "pulled. [The donkey|{donkey}] did not [take one step|move|move at all|lift a foot].",
        "On market day they put {load} on {donkey}'s back. Clip-clop, clip-clop, they went [along the road|down "
        "the lane|past the fields|over the hills]. [All at once|Halfway there|Then] [the donkey stood "
        'still|{donkey} stood still|{donkey} stopped]. "Come on, {donkey}," said {h.his} {dad}. But {donkey} was '
        "like a rock.",
    )
    t.row("p", rows("""
            one; two
            a farmer; pushed from behind, and {donkey} sat down
            a strong blacksmith; pulled so hard on the rope that he fell on his back
            three boys; shouted and clapped, and {donkey} only flapped one ear
            a woman with a basket; held a carrot in front of the donkey's nose. {donkey} ate the carrot and stayed
            """))  # fmt: skip
    t.say(
        "Then came {p.one}, wanting to help. [The help was not much help|It did not help|That was no use]. "
        '{^p.one} {p.two}. {@soon} the whole road was full of people, and all of them gave advice. "What a '
        '[stupid|silly|lazy] animal!" said [somebody|one man|a woman].',
        '{^p.one} came by and {p.two}. "[Stubborn as a donkey|What a stubborn beast]," [people said and '
        "laughed|said the people|they all said]. {h.his} {dad} wiped his face. He was {@angry} now.",
    )
    end = t.one_of(("bridge", "stone", "nest"))
    if end == "bridge":
        t.say(
            "{h} did not pull or push. {h.he} [looked into {donkey}'s big eyes|put {h.his} ear against {donkey}'s "
            'warm neck]. The donkey was shaking. "{donkey} is not stubborn," said {h}. "{donkey} is scared." '
            "{h} went ahead alone and looked at the way. Ahead there was a small bridge, and two of its planks "
            "were [rotten|cracked right through]!",
        )
        t.say(
            "If they had gone on, the cart would have fallen into the river. Nobody laughed [now|any more] at "
            "{donkey}. The men fetched new planks, and {donkey} got the best [apple|turnip] on the road.",
            'Everybody [became very quiet|looked at {donkey}|was ashamed]. "{donkey} has more sense than all of '
            'us," said {h.his} {dad}, and he took off his hat to the donkey.',
        )
    elif end == "stone":
        t.say(
            "{h} walked slowly around the donkey. {h} lifted [one foot after the other|all four feet in turn]. In "
            'the last one there was a sharp [stone|thorn]. "You poor thing," said {h}. "That must hurt [at '
            'every step|so much|a lot]." {h.he} pulled it out very gently.',
        )
        t.say(
            '{donkey} snorted, shook both ears, and trotted off so fast that they all had to run. "How did you '
            'know?" asked {h.his} {dad}. "I asked," said {h}.',
            ""
            '"Hee-haw!" '
            "said "
            "{donkey}, "
            "and "
            "it "
            "sounded "
            "like "
            "thank "
            "you. "
            "They "
            "got "
            "to "
            "the "
            "market "
            "in "
            "time "
            "after "
            "all "
            "and "
            "sold "
            "everything.",
        )
    else:
        t.say(
            "{h} got down on {h.his} knees and looked at the road. There, right before {donkey}'s front feet, was "
            "[a lark's nest with four eggs|a family of tiny hedgehogs|a very small kitten] in the dust. \"{donkey} "
            'stopped so as not to step on it," said {h}.',
        )
        t.say(
            "They lifted it out of the way with great care, into the soft grass. Then {donkey} walked on, "
            "clip-clop, as if nothing had happened.",
            ""
            "Nobody "
            "said "
            "stupid "
            "any "
            "more. "
            "{h.his} "
            "{dad} "
            "laid "
            "his "
            "hand "
            "on "
            "{donkey}'s "
            "head. "
            '"I '
            "should "
            "have "
            'looked," '
            "he "
            "said.",
        )
    t.go_on(
        "",
        "From that day on, when {donkey} stopped, they stopped too and looked.",
        "That evening there was "
        "an extra [carrot|apple] "
        "in the stable, and {h} "
        "whispered good night "
        "into a long, soft ear.",
    )


def small_helps_big(t: TemplateFiller) -> None:
    """A big animal spares, or laughs at, a little one, and is helped by it."""
    t.animal("h", rows("""
            kind; look; home; food; went; can
            mouse; round ears; in a hole under a root; seeds; scurried; gnaw
            ant; six thin legs; in a hill of sand; crumbs; ran; crawl
            hummingbird; wings too fast to see; in a nest as small as a nut; nectar; flew; fly
            shrew; a long, wiggly nose; under a stone; bugs; scurried; gnaw
            cricket; long green legs; in the tall grass; leaves; hopped; sing
            """))  # fmt: skip
    t.animal("f", rows("""
            kind; look; home; food; went
            lion; a golden mane; on a rock; meat; strode
            elephant; big ears; by the river; leaves; marched
            bear; huge paws; in a cave; honey; padded
            buffalo; curved horns; on the plain; grass; walked
            rhino; thick gray skin; near the water hole; grass; stamped
            """), "he")  # fmt: skip
    t.begin(
        "[was so small that nobody noticed {h.him}|was the smallest animal for miles|wanted to do something "
        "great one day]"
    )
    t.go_on("Not far away lived {f}, a mighty {f.kind}.", "The biggest animal there was a {f.kind} named {f}.")
    t.say(
        "{@fine}, {h} bumped right into {f}'s nose by mistake. {f} woke up and was {@angry}. \"I could squash "
        'you," he said. "Please don\'t," said {h}. "Let me go, and one day I will help you." {f} laughed so '
        'hard that the ground shook. "You? Help me?" But he lifted his foot and let {h} go.',
        '"Good morning!" said {h} every day. But {f} never answered, because he did not look down. {@day}, {h} '
        'shouted, "Good morning! If you need a friend, call me!" {f} heard it at last. "What could a {h.kind} '
        'do for me?" he said, and he laughed until the birds flew up.',
    )
    t.row("m", rows("""
            trap; cry; fix; free
            net; He was caught in a net that hunters had hung between the trees. The more he pulled, the tighter it got; {h} and a hundred cousins bit through the ropes, one after the other; The last rope snapped, and {f} was free
            thorn; He had a long thorn in his foot, and he could not reach it. He limped and moaned; {h} crept between his toes, got hold of the thorn, and pulled it out bit by bit; Pop! Out it came, and {f} put his foot on the ground without pain
            sleep; He had eaten some strange berries, and now he lay fast asleep on the sandy bank of the river, and the water was rising; {h} climbed into his ear and made all the noise a {h.kind} can make; {f} jumped up, and a moment later the water rushed over the place where he had been
            sneeze; A seed was stuck deep in his nose. He could not breathe, and he could not sleep; {h} was the only one small enough to go in, and {h.he} tickled until he sneezed; Achoo! Out flew the seed, and out flew {h}, and {f} could breathe again
            """))  # fmt: skip
    t.say(
        "Some days later {h} heard a terrible noise. It was {f}. {m.cry}. All the other animals stood around and "
        'did not know what to do. "He is so big," they said. "What can we do?"',
        "Then something bad happened to {f}. {m.cry}. Strong as he was, it did not help him at all. {h} came as "
        "fast as {h.he} could.",
    )
    t.say(
        '"I am here," said {h}. "Keep still." {m.fix}. It took [a long time|all of {h.his} strength]. {m.free}.',
        '"You laughed at me," said {h}, "but I keep my word." {m.fix}. {m.free}!',
    )
    t.say(
        '{f} bent his head down, lower and lower, until he could look {h} in the eye. "Thank you, my big '
        'friend," he said.',
        '"I was wrong," said {f}. "You are small only on the outside." And since then, {h} has ridden [through '
        "the grass|to the river] high up on the head of a {f.kind}.",
        "From then on, {f} said good morning to everyone, even to the beetles. And he always looked down before he "
        "sat.",
    )


def winter_store(t: TemplateFiller) -> None:
    """One gathers, one plays; or one gathers too much and shares too little; then comes the snow."""
    t.animal("h", WOODLAND[:3] + WOODLAND[10:11])
    t.animal("f", WOODLAND[:3] + WOODLAND[4:6])
    t.let(nuts="[nuts|acorns|beechnuts|seeds|dried berries|hazelnuts]")
    greedy = t.chance(0.5)
    if greedy:
        t.begin(
            "[collected {nuts}|gathered {nuts} from morning till night|had more {nuts} than anyone]",
            trait="busy|quick|careful|greedy",
        )
        t.say(
            "Every fall {h} filled one room with {nuts}, and then another, and then a third. {f}, a {f.kind} who "
            'lived next door, had hurt {f.his} foot and could not gather much. "Could you lend me a few?" {f.he} '
            'asked. "I need them all," said {h} and shut the door.',
            "The leaves turned yellow. {h} ran and ran, and there were {nuts} under {h.his} bed, on {h.his} chair, "
            'and in {h.his} teapot. "What a lot you have!" said {f}, the {f.kind} from next door. {h} sat down '
            'on the heap. "They are mine," {h.he} said.',
        )
        t.say(
            "Winter came. The snow lay deep, and {h} sat among {h.his} {nuts}. There was no room to dance, no room "
            "to lie down, and nobody to talk to. <{h.he} counted the {nuts}, and when {h.he} was done, {h.he} "
            "counted them again.> One night the pile slipped. Rumble, bump! It rolled in front of the door, and "
            "{h} could not get out.",
            "Then it snowed for seven days. {h} had plenty to eat, but {h.he} was so lonely that the {nuts} tasted "
            "of dust. And the heap was so big that the floor cracked. Crash! {h} fell through it and was stuck up "
            "to {h.his} chin in {nuts}.",
        )
        t.say(
            '"Help!" cried {h}. {f} heard it through the wall. {f.he} was thin and weak, but {f.he} came and dug '
            'with both paws until {h} was free. {h} felt {@sad} and ashamed. "I gave you nothing," {h.he} said, '
            '"and you came." "You are my neighbor," said {f}.',
            "{h} knocked on the wall. Knock, knock. {@soon} {f} came, pushed and pulled, and got {h.him} out. {f} "
            "did not look at the {nuts}, but {h} heard {f.his} tummy growl. {h.his} ears turned red.",
        )
        t.say(
            '"Come in," said {h}, "and help me eat some of this. I need room to dance!" That winter they ate, '
            "sang, and danced until the snow was gone.",
            "The next day {h} carried a full sack to every house in the wood. When {h.he} came home, the rooms "
            "were half empty, and {h} could hear them echo. It was the best sound in the world, for soon the rooms "
            "were full of friends.",
        )
        return
    t.begin(
        "[loved to play and sing|danced in the sun all day|thought only of fun]",
        trait="merry|happy|cheerful|playful|lively|funny",
    )
    t.say(
        'All summer {f}, a hard-working {f.kind}, carried {nuts} into {f.his} house. "Winter is coming," {f} '
        'said. "You should gather some too." "Winter is far away," said {h} and [turned a somersault|played a '
        'tune on a blade of grass]. "Listen to my new song!"',
        '"Come and help me," said {f}, a {f.kind}, with a sack of {nuts} on {f.his} back. "Tomorrow," said '
        '{h}. "Today the sun is shining." And the next day {h.he} said the same, and the day after that as well. '
        "The leaves turned red, then brown.",
    )
    t.say(
        "One morning everything was white. {h} dug in the snow and found nothing but cold stones. {h.his} tummy "
        "growled. {h.he} sang a little to warm {h.himself}, but {h.his} teeth chattered so much that it was no "
        "song. At last {h.he} knocked at {f}'s door.",
        "Then the first snow fell. {h} looked in {h.his} cupboard. There was half of one old mushroom. After two "
        'days {h.he} was so hungry that {h.he} could not sleep. "I was foolish," {h.he} said, and {h.he} walked '
        "through the wind to {f}'s house.",
    )
    t.say(
        '{f} looked at {h} for a long time. "I worked while you played," {f} said. "I know," said {h}. "I '
        'have nothing to give you but my songs." {f} thought of the long, dark, silent evenings. "Come in," '
        '{f.he} said. "Songs are something too."',
        '"Please, may I have a few {nuts}?" asked {h}. "I will work for them." "What can you do?" asked {f}. '
        '"I can sweep, and I can tell stories," said {h}. {f} opened the door wide.',
    )
    t.say(
        "That was a winter! They had {nuts} for supper, and after supper there was music. And when the next summer "
        "came, {h} carried sacks all morning and sang all afternoon.",
        'In spring {h} said, "This year I will help you from the first day." And {h.he} did. {h.he} sang while '
        "they worked, and the sacks seemed only half as heavy.",
    )


def runaway_chick(t: TemplateFiller) -> None:
    """A farm animal runs off to see the world and finds that it is large; or looks for its mother's voice."""
    t.animal("h", FARMYARD)
    t.animal("f", WOODLAND[:3])
    t.row("w", rows("""
            want; saw; trouble
            the end of the road; a mill with great white arms; it began to get dark
            where the sun sleeps; a lake as red as fire; it grew cold and dim
            the other side of the hill; another hill, just as green; clouds covered the sun
            the place the train goes to; a long black tunnel; the last train had gone by
            what was behind the fence; a field with no fence at all; the gate fell shut
            """))  # fmt: skip
    t.begin(
        "[wanted to see {w.want}|always wondered about {w.want}|was tired of the farm and wanted to see {w.want}]",
        trait="curious|brave|bold|lively|restless",
    )
    t.say(
        '"Stay where I can see you," said {h.his} mother. But one morning, {h} found a hole in the fence. '
        "[Squeeze|Push], wriggle, [pop|plop]! {h} was out. The world was so big, and it smelled of "
        "[mint|rain|adventure].",
        'Early one morning, when the others were still asleep, {h} slipped out of the yard. "{h.sound}!" {h.he} '
        'said. "Now I am [a traveler|free|an explorer|off to see the world]."',
    )
    t.say(
        '{h} {h.went} along a path and through a wood. {h.he} met a {f.kind} named {f}. "Where are you going?" '
        'asked {f}. "To see {w.want}," said {h}. "It is farther than you think," said {f}. But {h} went on. At '
        "last {h.he} saw {w.saw}.",
        "{h.he} {h.went} past the [pond|well|mill wheel] and did not look back. By noon {h.he} had seen a "
        '[snake|windmill|tractor], three [geese|hikers], and {w.saw}. "{@wow}!" said {h}[| to the wind]. A '
        '{f.kind} named {f} looked out of the bushes. "You are a long way from home," said {f}.',
    )
    t.go_on(
        "Then {w.trouble}, and {h} felt {@afraid}. Which way was home? [All the paths looked the same|{h} did not "
        "know|There were four paths].",
        'But {w.trouble}. {h} was hungry, {h.his} feet hurt, and the shadows were long. "I want to go home," '
        "{h.he} {@whispered}.",
    )
    t.say(
        '"{h.sound}! {h.sound}!" {h} cried. {f} heard {h.him} and came back. "Be still and listen," said {f}. '
        "They [held their breath|sat very still]. Far, far away [somebody was calling|there was a voice|they heard "
        'a call]. "{h.sound}!" It was {h.his} mother\'s voice. They followed it [over the stream|along a '
        "ditch|past a barn] and through the [corn|tall grass|orchard].",
        '{f} sniffed the air. "What does your home smell like?" {f.he} asked. {h} closed {h.his} eyes. "Like '
        '{h.food}," {h.he} said, "and like my mother." {f} had a very good nose. "Then it is this way," said '
        "{f}, and they set off together under the first stars.",
    )
    t.say(
        'There stood {h.his} mother at the fence. She did not scold. She only held {h} very close. "Did you see '
        'the world?" she asked later. "I saw a lot," said {h}. "But the best thing was your voice."',
        "{h} ran the last bit. <There was {h.food} for supper, and some for {f} too.> That night {h} lay close to "
        '{h.his} mother\'s side. "Tomorrow I will stay here," {h.he} said. "And next year?" asked {h.his} '
        "mother. But {h} was already asleep.",
    )


PLOTS = (
    hurt_wing,
    honey_pot,
    first_flight,
    sleepless_owl,
    slow_one,
    false_alarm,
    stubborn_donkey,
    small_helps_big,
    winter_store,
    runaway_chick,
)
